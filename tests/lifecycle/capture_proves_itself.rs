use std::time::Duration;

use kith_tests::{Sidecar, kith_proxy, tcp::Server, wait_until};

use crate::rig::{Rig, echo};

/// It is looked at every 30 s while all is well.
const NEXT_LOOK: Duration = Duration::from_secs(60);
const SOON: Duration = Duration::from_secs(20);

#[test]
fn without_init_the_sidecar_is_not_ready_and_says_what_to_do() {
    let rig = Rig::new();
    let sidecar = rig.web().without_capture().begin();
    let check = || sidecar.metric("kith_capture_self_check");
    let complains = |within: Duration| {
        wait_until("not ready for want of capture alone, saying what to do", within, || {
            let (ready, reason) = sidecar.readiness();
            let only_capture = reason.trim_end().lines().count() == 1;
            !ready && only_capture && reason.contains("capture:") && reason.contains("run `kith-proxy init`")
        });
    };
    complains(SOON);
    assert_eq!(check(), 0.0);

    Sidecar::init(&rig.server);
    sidecar.wait_ready();
    assert_eq!(check(), 1.0);
    let _peer = rig.front().ready();
    let _echo = Server::echo(&rig.server, rig.server.at(7001));
    echo(&rig.client, rig.server.at(7001), b"captured").unwrap();
    assert!(sidecar.metric("kith_inbound_last_connection_seconds") > 1.0e9, "when a connection last came through");

    // Rules that go away later are noticed too, each family for itself.
    let flush = "flush chain inet kith outbound\n\
                 add rule inet kith outbound ip daddr 127.0.0.1 tcp dport 15009 redirect to :15001\n";
    rig.server.nft(flush);
    complains(NEXT_LOOK);
    assert_eq!(check(), 0.0);
    rig.server.command(kith_proxy()).arg("init").run();
    sidecar.wait_ready();
}
