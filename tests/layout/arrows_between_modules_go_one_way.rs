use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use crate::sources::{files_below, root};

/// By module of a crate's root, the other modules there that it names.
type Arrows = BTreeMap<String, BTreeSet<String>>;

/// Who composes, and so may import the root's `config`.
const COMPOSERS: [&str; 4] = ["app", "init", "cli", "main"];

/// What the two ends of the byte's way may use.
const BYTE_PATH: [&str; 6] = ["policy", "discovery", "transport", "outcome", "access_log", "sidecar"];

/// The modules that use no other.
const LEAVES: [&str; 3] = ["redirect", "load", "policy"];

fn arrows_of(src: &Path) -> Arrows {
    let files: Vec<_> =
        files_below(src).into_iter().filter(|path| path.extension().is_some_and(|e| e == "rs")).collect();
    let module = |path: &Path| {
        let first = path.strip_prefix(src).unwrap().components().next().unwrap();
        first.as_os_str().to_str().unwrap().trim_end_matches(".rs").to_owned()
    };
    let mut arrows: Arrows = files.iter().map(|path| (module(path), BTreeSet::new())).collect();
    let modules: BTreeSet<_> = arrows.keys().cloned().collect();
    for path in files.iter().filter(|path| path.file_name().is_some_and(|name| name != "tests.rs")) {
        let from = module(path);
        let depth = path.strip_prefix(src).unwrap().components().count();
        let named = names(&fs::read_to_string(path).unwrap(), depth);
        let named = named.into_iter().filter(|to| *to != from && modules.contains(to));
        arrows.get_mut(&from).unwrap().extend(named);
    }
    arrows
}

/// The first names after `crate::`, or after as many `super::` as lead to the root, in what is not a test.
fn names(source: &str, depth: usize) -> Vec<String> {
    let code = source.split("\n#[cfg(test)]\nmod ").next().unwrap_or_default();
    let code: String = code.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n");
    let roots = ["crate::".to_owned(), "super::".repeat(depth)];
    let behind = roots.iter().flat_map(|root| code.split(root.as_str()).skip(1));
    behind.flat_map(first_names).collect()
}

/// `a::b` is `a`; `{a::{b, c}, d}` are `a` and `d`.
fn first_names(path: &str) -> Vec<String> {
    let Some(list) = path.strip_prefix('{') else { return first_name(path).into_iter().collect() };
    let mut depth = 0;
    let (mut parts, mut part) = (Vec::new(), String::new());
    for letter in list.chars() {
        match letter {
            '}' if depth == 0 => break,
            ',' if depth == 0 => parts.push(std::mem::take(&mut part)),
            _ => part.push(letter),
        }
        depth += i32::from(letter == '{') - i32::from(letter == '}');
    }
    parts.push(part);
    parts.iter().filter_map(|part| first_name(part)).collect()
}

fn first_name(path: &str) -> Option<String> {
    let name: String = path.trim_start().chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
    (!name.is_empty()).then_some(name)
}

/// A way that leads back to where it began.
fn circle(arrows: &Arrows) -> Option<Vec<String>> {
    fn walk(at: &str, arrows: &Arrows, way: &mut Vec<String>, done: &mut BTreeSet<String>) -> bool {
        if let Some(began) = way.iter().position(|module| module == at) {
            way.drain(..began);
            return true;
        }
        if done.contains(at) {
            return false;
        }
        way.push(at.to_owned());
        if arrows.get(at).into_iter().flatten().any(|next| walk(next, arrows, way, done)) {
            return true;
        }
        way.pop();
        done.insert(at.to_owned());
        false
    }
    let (mut way, mut done) = (Vec::new(), BTreeSet::new());
    arrows.keys().any(|module| walk(module, arrows, &mut way, &mut done)).then_some(way)
}

#[test]
fn in_both_programs_and_only_who_composes_imports_config() {
    for program in ["proxy", "ca-agent"] {
        let arrows = arrows_of(&root().join(program).join("src"));
        assert!(arrows["app"].contains("config"), "{program}: the search sees no arrows: {arrows:#?}");
        assert_eq!(circle(&arrows), None, "{program}: these modules use each other in a circle");
        for (module, uses) in &arrows {
            let composes = COMPOSERS.contains(&module.as_str());
            assert!(composes || !uses.contains("config"), "{program}: {module} imports config and not its own");
            assert!(composes || !uses.contains("app"), "{program}: {module} imports who composes it");
        }
    }
}

#[test]
fn in_the_sidecar_the_byte_path_uses_what_it_may_and_the_plan_nothing() {
    let arrows = arrows_of(&root().join("proxy/src"));
    for end in ["inbound", "outbound"] {
        let others: Vec<_> = arrows[end].iter().filter(|used| !BYTE_PATH.contains(&used.as_str())).collect();
        assert!(others.is_empty(), "{end} may not use {others:?}");
    }
    for leaf in LEAVES {
        assert_eq!(arrows[leaf], BTreeSet::new(), "{leaf} stands alone");
    }
    let plan = fs::read_to_string(root().join("proxy/src/redirect/plan.rs")).unwrap();
    for effect in ["std::process", "std::fs", "std::io", "std::env", "tokio"] {
        assert!(!plan.contains(effect), "the plan is a pure function, without {effect}");
    }
}

#[test]
fn the_search_finds_arrows_and_circles() {
    let source = "//! crate::not_me\nuse crate::{\n    a::{x, y::z},\n    b, c as d,\n};\nuse crate::e::f;\nfn g(h: crate::h::I) {}\n\
                  use super::i::j;\n#[cfg(test)]\nmod tests {\n    use crate::k;\n}\n";
    assert_eq!(names(source, 1), ["a", "b", "c", "e", "h", "i"]);
    assert_eq!(names("use super::super::{l::m, n};", 2), ["l", "n"]);
    let arrows = |list: &[(&str, &str)]| -> Arrows {
        let mut arrows = Arrows::new();
        for (from, to) in list {
            arrows.entry((*from).to_owned()).or_default().insert((*to).to_owned());
        }
        arrows
    };
    assert_eq!(circle(&arrows(&[("a", "b"), ("b", "c"), ("a", "c")])), None);
    let found = circle(&arrows(&[("a", "b"), ("b", "c"), ("c", "b")])).unwrap();
    assert_eq!(found, ["b", "c"]);
}
