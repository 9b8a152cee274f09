//! Convolution kernels that stage values in workgroup memory.

use super::super::convolution_spec::ConvolutionSpec;
use super::super::k_tile::KTile;
use super::super::kernel_config::{Specialisation, TILED_WORKGROUP_SIDE as SIDE};
use super::super::storage::ElementType;
use super::convolution::{constants, fill_store_sums, products, sum_registers, types, weight_function};
use super::template::{ShaderSource, fill};

/// Number of invocations in a workgroup.
const INVOCATIONS: usize = SIDE * SIDE;

/// Returns the number of workgroups: along tiles of pixels, tiles of output blocks, and splits.
pub fn workgroups(spec: &ConvolutionSpec) -> [usize; 3] {
    let config = &spec.config;
    let [pixels, blocks] = [SIDE * config.pixels, SIDE * config.blocks];
    [all_pixels(spec).div_ceil(pixels), spec.output.blocks().div_ceil(blocks), config.splits]
}

/// Returns the number of output pixels of all images.
fn all_pixels(spec: &ConvolutionSpec) -> usize {
    spec.output.batch * spec.output.height * spec.output.width
}

fn k_tile(spec: &ConvolutionSpec) -> KTile {
    KTile::new(spec.layer).expect("tiled kernels are only selected for layers with K tiles")
}

/// Generates the source of a kernel of the tiled family.
pub fn source(spec: &ConvolutionSpec, overflow_binding: Option<usize>) -> ShaderSource {
    let (layer, config, output) = (spec.layer, &spec.config, &spec.output);
    let k_tile = k_tile(spec);
    let k_tiles_of_blocks = spec.input_blocks() / k_tile.blocks() / config.splits;
    let (input_slice_stride, weight_slice_stride) = match k_tile {
        KTile::ChannelBlocks => (spec.input.plane_stride(), layer.kernel * 4 * output.blocks()),
        KTile::TapRow => (1, 4 * output.blocks()),
    };
    let mut constants = constants(spec);
    constants.extend([
        ("SIDE", SIDE),
        ("PIXELS", config.pixels),
        ("BLOCKS", config.blocks),
        ("DEPTH", k_tile.depth(layer)),
        ("INPUT_SLICE_STRIDE", input_slice_stride),
        ("WEIGHT_SLICE_STRIDE", weight_slice_stride),
        ("K_TILES", layer.kernel * k_tiles_of_blocks * k_tile.tiles_per_tap_row(layer)),
        ("K_TILES_PER_TAP_ROW", k_tile.tiles_per_tap_row(layer)),
        ("K_TILE_BLOCKS", k_tile.blocks()),
        ("ALL_PIXELS", all_pixels(spec)),
        ("IMAGE_PIXELS", output.height * output.width),
    ]);
    let mut text = include_str!("tiled.wgsl").to_owned();
    fill_store_sums(spec, &mut text, &mut constants);
    let operand = spec.operand_type(Specialisation::PerShape);
    let staged = staged_elements(spec, operand);
    fill(&mut text, "registers", staged.iter().map(|staged| format!("var {}: Operand;", staged.register)));
    // Reads occur twice: before the loop for the first iteration, and in each iteration for the next one.
    for _ in 0..2 {
        fill(&mut text, "read", staged.iter().map(StagedElement::read));
    }
    fill(&mut text, "stage", staged.iter().map(StagedElement::stage));
    let output_block = |block| format!("min(first_block + {}u, OUTPUT_BLOCKS - 1u)", block * SIDE);
    fill(&mut text, "sums", sum_registers(spec, output_block));
    let input = |pixel| format!("let input{pixel} = input_tile[pixel + {}u];", pixel * SIDE);
    fill(&mut text, "inputs", (0..config.pixels).map(input));
    let weight = |channel, block| format!("weight_tile[row + {}u]", (channel * config.blocks + block) * SIDE);
    let products = products(spec, operand, &weight, None, &|pixel| format!("input{pixel}"));
    fill(&mut text, "products", products);
    fill(&mut text, "outputs", stores(spec));
    ShaderSource::new(&types(spec, operand, overflow_binding), &constants, &text)
}

/// An element that an invocation stages for each K tile.
struct StagedElement {
    register: String,
    /// Expression that reads the element from its buffer.
    source: String,
    /// Element of workgroup memory that it is written to.
    target: String,
    /// Condition for the invocations that have an element to stage; `None` if all have one.
    condition: Option<String>,
}

impl StagedElement {
    fn read(&self) -> String {
        self.guarded(format!("{} = {};", self.register, self.source))
    }

    fn stage(&self) -> String {
        self.guarded(format!("{} = {};", self.target, self.register))
    }

    fn guarded(&self, statement: String) -> String {
        match &self.condition {
            Some(condition) => format!("if {condition} {{ {statement} }}"),
            None => statement,
        }
    }
}

/// Distributes the inputs and the weights of a K tile to the invocations: in each round, every invocation stages one
/// element.
fn staged_elements(spec: &ConvolutionSpec, operand: ElementType) -> Vec<StagedElement> {
    let depth = k_tile(spec).depth(spec.layer);
    let [pixels, blocks] = [SIDE * spec.config.pixels, SIDE * spec.config.blocks];
    let rounds = |name: &'static str, elements: usize, source: &dyn Fn(usize) -> String| {
        let staged = |round: usize| {
            let first = round * INVOCATIONS;
            let condition = (first + INVOCATIONS > elements).then(|| format!("index + {first}u < {elements}u"));
            let target = format!("{name}_tile[index + {first}u]");
            StagedElement { register: format!("next_{name}{round}"), source: source(round), target, condition }
        };
        (0..elements.div_ceil(INVOCATIONS)).map(staged).collect::<Vec<_>>()
    };
    let input = |round| format!("Operand(input[input_index + {}u * INPUT_SLICE_STRIDE])", round * INVOCATIONS / pixels);
    let weight = |round| {
        let slice = round * INVOCATIONS / blocks / 4;
        format!("{}(weight_index + {slice}u * WEIGHT_SLICE_STRIDE)", weight_function(operand))
    };
    let mut staged = rounds("input", depth * pixels, &input);
    staged.extend(rounds("weight", depth * 4 * blocks, &weight));
    staged
}

/// Generates statements that store the sums of each pixel inside the images and each block inside the output.
fn stores(spec: &ConvolutionSpec) -> Vec<String> {
    let ragged = !spec.output.blocks().is_multiple_of(SIDE * spec.config.blocks);
    let mut lines = Vec::new();
    for pixel in 0..spec.config.pixels {
        let pixel_offset = pixel * SIDE;
        lines.push(format!("if first_pixel + {pixel_offset}u < ALL_PIXELS {{"));
        lines.push(format!("    let position = pixel_position(first_pixel + {pixel_offset}u);"));
        for block in 0..spec.config.blocks {
            let output_block = format!("first_block + {}u", block * SIDE);
            let image = "position.x + split * BATCH";
            let store = format!("store({image}, {output_block}, position.y, position.z, sum{pixel}_{block});");
            lines.push(match ragged {
                true => format!("    if {output_block} < OUTPUT_BLOCKS {{ {store} }}"),
                false => format!("    {store}"),
            });
        }
        lines.push("}".to_owned());
    }
    lines
}
