//! The README names nothing that is not there.

use std::{collections::BTreeSet, fs, path::Path, process::Command};

use kith_tests::{kith_ca_agent, kith_proxy};

#[test]
fn every_flag_that_it_names_is_in_a_programs_help() {
    let known = flags_of_the_programs();
    let readme = readme();
    let named: BTreeSet<_> = inline_code(&readme).chain(our_commands(&readme)).flat_map(flags).collect();
    assert!(
        named.contains("--mesh-file") && named.contains("--dry-run"),
        "the README's commands were not found: {named:?}"
    );
    let unknown: Vec<_> = named.iter().filter(|flag| !known.contains(*flag)).collect();
    assert!(unknown.is_empty(), "in the README and in no --help: {unknown:?}");
}

#[test]
fn every_link_leads_to_a_file() {
    let readme = readme();
    let links: Vec<_> = readme.split("](").skip(1).filter_map(|rest| rest.split(')').next()).collect();
    let missing: Vec<_> =
        links.iter().filter(|link| !link.starts_with("https://") && !root().join(link).exists()).collect();
    assert!(!links.is_empty() && missing.is_empty(), "no file: {missing:?}");
}

#[test]
fn every_make_target_exists() {
    let makefile = fs::read_to_string(root().join("Makefile")).unwrap();
    let readme = readme();
    let targets: BTreeSet<_> =
        readme.split(['`', '\n']).filter_map(|text| text.strip_prefix("make ")?.split_whitespace().next()).collect();
    assert!(targets.contains("demo") && targets.contains("test"), "{targets:?}");
    for target in targets {
        assert!(makefile.contains(&format!("\n{target}:")), "there is no target {target}");
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

fn readme() -> String {
    fs::read_to_string(root().join("README.md")).unwrap()
}

fn flags_of_the_programs() -> BTreeSet<String> {
    let proxy = ["init", "run", "status", "svid"].map(|command| (kith_proxy(), vec![command]));
    let agent = [
        vec!["serve"],
        vec!["token", "create"],
        vec!["token", "list"],
        vec!["token", "delete"],
        vec!["identities", "list"],
        vec!["identities", "show"],
        vec!["bundle", "show"],
        vec!["authority", "list"],
    ];
    let commands = proxy.into_iter().chain(agent.map(|words| (kith_ca_agent(), words)));
    let help = commands.map(|(program, words)| {
        let output = Command::new(program).args(&words).arg("--help").output().unwrap();
        assert!(output.status.success(), "there is no command {words:?}");
        String::from_utf8(output.stdout).unwrap()
    });
    help.flat_map(|text| flags(&text).collect::<Vec<_>>()).collect()
}

/// What stands between single backticks.
fn inline_code(text: &str) -> impl Iterator<Item = &str> {
    let prose = text.split("```").step_by(2);
    prose.flat_map(|prose| prose.split('`').skip(1).step_by(2))
}

/// What follows the name of a program of ours in the blocks of code, to the end of the command.
fn our_commands(text: &str) -> impl Iterator<Item = &str> {
    let blocks = text.split("```").skip(1).step_by(2);
    blocks
        .flat_map(|block| ["kith-proxy ", "kith-ca-agent "].into_iter().flat_map(|name| block.split(name).skip(1)))
        .map(|rest| {
            let end = rest.match_indices('\n').map(|(at, _)| at).find(|at| !rest[..*at].trim_end().ends_with('\\'));
            &rest[..end.unwrap_or(rest.len())]
        })
}

fn flags(text: &str) -> impl Iterator<Item = String> {
    let is_part = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let words = text.split(move |c: char| !is_part(c));
    words.filter(|word| word.len() > 2 && word.starts_with("--") && !word.starts_with("---")).map(str::to_owned)
}
