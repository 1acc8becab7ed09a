use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use kith_tests::wait_until;

use crate::{
    rig::{Rig, text},
    workload::{Holds, Workload, csr, new_key},
};

const CLIENTS: usize = 8;
const TOKENS: usize = 5;
const KILLS: usize = 5;

#[test]
fn under_issuance_by_eight_clients_again_and_again() {
    let rig = Rig::new(&["--requests-per-minute", "0"]);
    let workload = Workload::new(&rig.client, &rig.agent);
    let (stop, issued) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|number| {
            let tokens = (0..TOKENS).map(|token| rig.agent.token(&format!("/load/{number}/{token}"))).collect();
            let (stop, issued) = (Arc::clone(&stop), Arc::clone(&issued));
            let client = Client { workload: workload.clone(), tokens, held: Vec::new(), stop, issued };
            rig.client.spawn(move || client.run())
        })
        .collect();

    for kill in 0..KILLS {
        let before = issued.load(Ordering::SeqCst);
        // Another moment each time, and always in the middle of it.
        let goal = before + 40 + 13 * kill;
        wait_until("certificates are issued", Duration::from_secs(60), || {
            assert!(clients.iter().all(|client| !client.is_finished()), "a client has given up");
            issued.load(Ordering::SeqCst) >= goal
        });
        rig.agent.kill();
        rig.agent.launch();
    }
    let after = issued.load(Ordering::SeqCst);
    wait_until("it issues again", Duration::from_secs(60), || issued.load(Ordering::SeqCst) >= after + 2 * CLIENTS);
    stop.store(true, Ordering::SeqCst);
    let held: Vec<String> = clients.into_iter().flat_map(|client| client.join().unwrap()).collect();

    let listed = rig.agent.ask_json(&["identities", "list", "--superseded", "--expired"]);
    let mut known = BTreeMap::new();
    for identity in listed.as_array().unwrap() {
        let twice = known.insert(text(identity, "serial"), text(identity, "spiffe_id"));
        assert_eq!(twice, None, "no serial number is given twice: {identity}");
    }
    let distinct: BTreeSet<_> = held.iter().collect();
    assert_eq!(distinct.len(), held.len(), "no two answers hold the same serial number");
    let lost: Vec<_> = held.iter().filter(|serial| !known.contains_key(serial.as_str())).collect();
    assert!(lost.is_empty(), "of {} certificates that clients hold, the CA does not know {lost:?}", held.len());
    assert!(held.len() > KILLS * 40, "there was something to lose: {}", held.len());
    eprintln!("{} certificates held, {} known to the CA, {KILLS} kills", held.len(), known.len());
}

/// Asks for one certificate after another, by a token and then by what the token brought, and keeps count.
struct Client {
    workload: Workload,
    tokens: Vec<String>,
    held: Vec<String>,
    stop: Arc<AtomicBool>,
    issued: Arc<AtomicUsize>,
}

impl Client {
    fn run(mut self) -> Vec<String> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut holds = None;
            let mut turn = 0_usize;
            while !self.stop.load(Ordering::SeqCst) {
                // A token now and then, as long as there are any, spread over all the kills.
                let token = if holds.is_none() || turn.is_multiple_of(12) { self.tokens.pop() } else { None };
                holds = self.obtain(token.as_deref(), holds).await;
                turn += 1;
            }
        });
        self.held
    }

    /// Tries until there is an answer, or it is over. Only the connection may fail: an agent that knows everything it
    /// has ever acknowledged has no reason to refuse us.
    async fn obtain(&mut self, token: Option<&str>, holds: Option<Holds>) -> Option<Holds> {
        let key = new_key();
        let request = csr(&key);
        let patience = Instant::now() + Duration::from_secs(60);
        loop {
            let answer = match (token, &holds) {
                (Some(token), _) => self.workload.ask_by_token(&request, token).await,
                (None, Some(holds)) => self.workload.ask_by_svid(&request, holds).await,
                (None, None) => panic!("neither a token nor an SVID"),
            };
            match answer {
                Ok(issued) => {
                    self.held.push(issued.serial());
                    self.issued.fetch_add(1, Ordering::SeqCst);
                    return Some(match holds {
                        Some(holds) => {
                            self.workload.hold_anew(&holds, issued, &key);
                            holds
                        }
                        None => self.workload.hold(issued, &key),
                    });
                }
                Err(refused) if refused.is_decision() => panic!("refused: {refused:?}"),
                Err(failed) if Instant::now() > patience => panic!("for too long: {failed:?}"),
                Err(_) if self.stop.load(Ordering::SeqCst) => return holds,
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    }
}
