use std::{fs, path::Path};

use crate::sources::{files_below, root, top_level};

const LONGEST: usize = 400;
const SOURCES: [&str; 5] = ["rs", "proto", "sql", "sh", "toml"];

fn is_source(path: &Path) -> bool {
    let generated = path.components().any(|part| part.as_os_str() == "generated");
    !generated && path.extension().is_some_and(|extension| SOURCES.iter().any(|known| extension == *known))
}

#[test]
fn no_source_file_passes_400_lines_generated_code_aside() {
    let (dirs, alone): (Vec<_>, Vec<_>) =
        top_level().iter().map(|name| root().join(name)).partition(|path| path.is_dir());
    let mut files: Vec<_> = dirs.iter().flat_map(|dir| files_below(dir)).chain(alone).collect();
    files.retain(|path| is_source(path));
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("layout/files_stay_short.rs");
    assert!(files.contains(&here), "the search finds nothing: {} files", files.len());
    let lengths = files.iter().map(|path| (path, fs::read_to_string(path).unwrap().lines().count()));
    let long: Vec<_> = lengths.filter(|(_, lines)| *lines > LONGEST).collect();
    assert!(long.is_empty(), "too long: {long:#?}");
}
