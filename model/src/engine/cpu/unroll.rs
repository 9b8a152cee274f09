//! Loops that the compiler cannot leave as they are: what they index has to stay in registers.

/// Repeats `$body` with `$index` as each of some constants.
macro_rules! each {
    ($index:ident in [$($value:literal)*] => $body:expr) => {
        $({
            const $index: usize = $value;
            $body
        })*
    };
}
pub(super) use each;
