use kith_proto::ca::{CurrentSvidAttestation, issue_certificate_request::Attestation};
use kith_tests::spiffe_id;
use tonic::Code;

use crate::{
    rig::Rig,
    workload::{Issued, Refused, Workload, csr, new_key},
};

#[test]
fn for_one_key_as_often_as_it_asks_and_for_no_other() {
    let rig = Rig::new(&[]);
    let workload = Workload::new(&rig.client, &rig.agent);
    let token = rig.agent.token("/batch/nightly");
    let request = csr(&new_key());

    let first = workload.join(&request, &token).unwrap();
    assert_eq!(first.leaf().id.to_string(), spiffe_id("/batch/nightly"));
    let again = workload.join(&request, &token).unwrap();
    assert_eq!(first, again, "the same token with the same key gets the same certificate");
    let secret_alone = token.split('.').next().unwrap();
    assert_eq!(workload.join(&request, secret_alone).unwrap(), first, "the pin is for the workload, not for the CA");

    let other = workload.join(&csr(&new_key()), &token).unwrap_err();
    assert_eq!(other.verdict(), (Code::PermissionDenied, "token_spent"), "another key: {other:?}");
    assert_eq!(workload.join(&request, &token).unwrap(), first, "a refusal changes nothing");
    assert_eq!(certificates(&rig, "/batch/nightly"), [first.serial()], "there is one certificate");
}

#[test]
fn of_many_that_come_at_once_one_key_wins_and_every_time_with_one_certificate() {
    let rig = Rig::new(&[]);
    let workload = Workload::new(&rig.client, &rig.agent);
    let [ours, contested] = ["/race/same-key", "/race/other-keys"].map(|path| rig.agent.token(path));
    let request = csr(&new_key());
    let answers = at_once(&workload, &[request.clone(), request.clone(), request.clone(), request], &ours);
    for answer in &answers {
        assert_eq!(answer.as_ref().unwrap(), answers[0].as_ref().unwrap(), "one key, one certificate");
    }
    assert_eq!(certificates(&rig, "/race/same-key").len(), 1);

    let requests: Vec<_> = (0..8).map(|_| csr(&new_key())).collect();
    let answers = at_once(&workload, &requests, &contested);
    let (won, lost): (Vec<_>, Vec<_>) = answers.into_iter().partition(Result::is_ok);
    assert_eq!(won.len(), 1, "one key wins: {lost:?}");
    for refused in lost.into_iter().map(Result::unwrap_err) {
        assert_eq!(refused.verdict(), (Code::PermissionDenied, "token_spent"), "{refused:?}");
    }
    assert_eq!(certificates(&rig, "/race/other-keys"), [won[0].as_ref().unwrap().serial()]);
}

#[test]
fn expired_deleted_unknown_or_at_the_wrong_door_it_is_refused_with_its_reason() {
    let rig = Rig::new(&[]);
    let workload = Workload::new(&rig.client, &rig.agent);
    let id = spiffe_id("/batch/late");
    let expired = rig.expired_token("/batch/late");
    let created = rig.agent.ask_json(&["token", "create", "--spiffe-id", &id]);
    let (deleted, deleted_id) = (created["token"].as_str().unwrap(), created["id"].as_str().unwrap());
    let said = rig.agent.ask(&["token", "delete", deleted_id]);
    assert!(said.contains(deleted_id), "{said}");
    let live = rig.agent.token("/batch/late");
    let (secret, pin) = live.split_once('.').unwrap();
    let mut mistyped = secret.to_owned();
    mistyped.replace_range(3..4, if &secret[3..4] == "A" { "B" } else { "A" });
    let mistyped = format!("{mistyped}.{pin}");

    let request = csr(&new_key());
    for (what, token, reason) in [
        ("expired", &*expired, "token_expired"),
        ("deleted", deleted, "token_unknown"),
        ("mistyped", &mistyped, "token_unknown"),
        ("its pin alone", pin, "token_unknown"),
        ("empty", "", "token_unknown"),
        ("garbage", "not a token at all", "token_unknown"),
    ] {
        let refused = workload.join(&request, token).unwrap_err();
        assert_eq!(refused.verdict(), (Code::PermissionDenied, reason), "{what}: {refused:?}");
    }
    let nothing = workload.ask_to_attest(&request, None).unwrap_err();
    assert_eq!(nothing.verdict(), (Code::InvalidArgument, "attestation_missing"), "{nothing:?}");
    let svid = Attestation::CurrentSvid(CurrentSvidAttestation {});
    let svid = workload.ask_to_attest(&request, Some(svid)).unwrap_err();
    assert_eq!(svid.verdict(), (Code::PermissionDenied, "attestation_not_accepted_here"), "{svid:?}");
    assert_eq!(certificates(&rig, "/batch/late"), [""; 0], "nothing was issued");

    let issued = workload.join(&request, &live).unwrap();
    assert_eq!(issued.leaf().id.to_string(), id, "the same request with a good token");
}

#[test]
fn for_an_identity_of_our_own_or_of_others_there_is_no_token() {
    let rig = Rig::new(&[]);
    for (id, reason) in [
        (spiffe_id("/kith/ca"), "reserved_identity"),
        (spiffe_id("/kith/discovery"), "reserved_identity"),
        ("spiffe://elsewhere.example/batch".to_owned(), "other_trust_domain"),
    ] {
        let refused = rig.agent.command(&["token", "create", "--spiffe-id", &id]);
        assert!(!refused.status.success(), "{id}: {}", refused.text());
        assert!(refused.stderr.contains(reason), "{id}: {}", refused.stderr);
    }
    assert_eq!(rig.agent.ask_json(&["token", "list"]).as_array().unwrap().len(), 0);
}

/// Every certificate that was ever issued for this path.
fn certificates(rig: &Rig, path: &str) -> Vec<String> {
    let (prefix, all) = (spiffe_id(path), ["identities", "list", "--superseded", "--expired", "--prefix"]);
    let found = rig.agent.ask_json(&[&all[..], &[&prefix]].concat());
    found.as_array().unwrap().iter().map(|identity| identity["serial"].as_str().unwrap().to_owned()).collect()
}

/// Asks with all of these requests at the same time.
fn at_once(workload: &Workload, requests: &[Vec<u8>], token: &str) -> Vec<Result<Issued, Refused>> {
    workload.pod().block_on(|| async {
        let asked = requests.iter().cloned().map(|request| {
            let (workload, token) = (workload.clone(), token.to_owned());
            tokio::spawn(async move { workload.ask_by_token(&request, &token).await })
        });
        let asked: Vec<_> = asked.collect();
        let mut answers = Vec::new();
        for answer in asked {
            answers.push(answer.await.unwrap());
        }
        answers
    })
}
