//! Whom the system lets compute first when there are more threads than processors.

/// The calling thread gives way to all others of the usual priority from now on, where threads have a priority each. The system
/// keeps a little for it, so that it never stands still.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
pub fn give_way() {
    /// The most that there is: at 10, engines are held up nearly as much as at 0.
    const NICE: libc::c_int = 19;
    // SAFETY: it takes numbers only. 0 is the calling thread, and every thread may give way more than before.
    unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, NICE) };
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub fn give_way() {}

#[cfg(all(test, target_os = "linux", target_env = "gnu"))]
mod tests {
    use super::*;

    #[test]
    fn a_thread_gives_way_and_no_other_does() {
        // SAFETY: it takes numbers only.
        let nice = || unsafe { libc::getpriority(libc::PRIO_PROCESS, 0) };
        let before = nice();
        let other = std::thread::spawn(move || {
            give_way();
            nice()
        });
        assert_eq!((other.join().unwrap(), nice()), (19, before));
    }
}
