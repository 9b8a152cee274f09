//! What a visitor does outside any one component.

mod drop;
mod paste;

pub use drop::{Dropped, use_drop};
pub use paste::use_paste;

use web_sys::{File, FileList};

pub fn files(list: Option<FileList>) -> Vec<File> {
    let list = list.into_iter().flat_map(|list| (0..list.length()).filter_map(move |index| list.get(index)));
    list.collect()
}
