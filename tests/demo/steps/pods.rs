use crate::{screen::Screen, stage::Stage};

pub(super) fn show(screen: &Screen) -> Stage {
    screen.step(
        "Pods",
        "A pod is a network namespace. These five are on one bridge, and nothing of Kith runs in them yet.",
    );
    let stage = Stage::set();
    let nginx = stage.web.command("nginx").arg("-v").output().stderr;
    let postgres = stage.psql_of_db("show server_version");
    let roles = [
        (&stage.control, "nothing yet".to_owned()),
        (&stage.front, "curl and psql, when called".to_owned()),
        (&stage.web, nginx.trim().trim_start_matches("nginx version: ").to_owned()),
        (&stage.db, format!("PostgreSQL {}", postgres.trim())),
        (&stage.intruder, "nothing yet".to_owned()),
    ];
    let rows = roles.map(|(pod, runs)| {
        let namespace = pod.netns();
        let namespace = namespace.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let address = pod.command("ip").args(["-br", "-4", "address", "show", "eth0"]).run();
        let address = address.split_whitespace().nth(2).unwrap_or_default().to_owned();
        assert!(address.starts_with(&format!("{}/", pod.v4())), "{} has the address {address:?}", pod.name());
        [pod.name().to_owned(), namespace, address, runs]
    });
    screen.table(["POD", "NAMESPACE", "ADDRESS", "RUNS"], &rows);
    screen.blank();
    screen.fact("Five namespaces with an address each; nginx and PostgreSQL serve.");
    stage
}
