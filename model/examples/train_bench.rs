use model::architecture::{Architecture, Stem};
use model::engine::Input;
use model::preprocess::ImageBatch;
use model::random;
use model::training::{TrainingNetwork, TrainingOptions};
use std::time::Instant;
fn main() {
    let args: Vec<String> = std::env::args().collect();
    let side: usize = args[2].parse().unwrap();
    let batch: usize = args[3].parse().unwrap();
    let mut a = Architecture::new(&args[1], 1000).unwrap();
    if args.get(4).is_some_and(|s| s == "small") { a.stem = Stem::Small; }
    let c = random::checkpoint(a);
    let mut n = TrainingNetwork::new(&c, TrainingOptions { threads: std::num::NonZero::new(2), ..Default::default() }).unwrap();
    let shape = [batch, side, side];
    let px = random::pixels(1, batch * side * side * 3);
    let input = Input::Pixels(ImageBatch::new(px, shape, [0.5; 3], [0.25; 3]).unwrap());
    let mut times = vec![];
    let steps = 8;
    for i in 0..steps {
        let s = Instant::now();
        n.parameters_and_gradients();
        let l = n.forward(&input);
        let g: Vec<f32> = l.iter().map(|x| x * 1e-4).collect();
        n.backward(&g);
        times.push(s.elapsed().as_secs_f64() * 1e3);
        if i == 0 { println!("first {:.1}", times[0]); }
    }
    times.sort_by(f64::total_cmp);
    println!("median {:.1} ms, min {:.1}, {:.1} GMAC/s", times[steps / 2], times[0], a.multiply_adds(side) as f64 * batch as f64 * 3.0 / times[0] / 1e6);
    for (o, t) in n.profile().totals() { println!("{:>8.1} ms  {o}", t.as_secs_f64() * 1e3 / steps as f64); }
}
