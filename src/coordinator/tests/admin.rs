//! What administrators tell the coordinator, message by message.

use model::access::command::{AdminAnswer, AdminCommand, AdminError, Credential};
use model::access::credentials::{CredentialValidator, PasswordRefused};
use model::access::defaults::DefaultUser;
use model::access::state::UserInVhost;
use model::access::{Access, PermissionPatterns, Reach, Right, Rights, VhostSettings};
use model::policy::{ApplyTo, Policy, PolicyScope, PolicyValue, merge};
use model::topology::Change;
use model::{ConnId, Name, QueueId, RequestId};

use crate::coordinator::tests::replica::Replica;
use crate::coordinator::tests::script::{Script, config, declare, login, queue};
use crate::coordinator::{Coordinator, CoordinatorConfig};
use crate::mesh::control::{Answer, Control, Request};
use crate::store::meta::{Fact, MetaState};

fn admin(command: AdminCommand) -> Request {
    Request::Admin(Box::new(command))
}

fn done() -> Answer {
    Answer::Admin(AdminAnswer::Done)
}

fn opened(rights: Rights) -> Answer {
    Answer::Opened { rights, counts_channels: false }
}

fn refused(why: AdminError) -> Answer {
    Answer::Admin(AdminAnswer::Refused(why))
}

fn of(user: &str, vhost: &str) -> UserInVhost {
    UserInVhost { user: user.into(), vhost: vhost.into() }
}

fn put_user(name: &str, password: &str) -> AdminCommand {
    let credential = Credential::Password(password.into(), [5; 4]);
    AdminCommand::PutUser { name: name.into(), credential, tags: Vec::new() }
}

fn permit(user: &str, vhost: &str, write: &str) -> AdminCommand {
    let write = write.into();
    let patterns = PermissionPatterns { write, ..PermissionPatterns::default() };
    AdminCommand::SetPermissions { user: user.into(), vhost: vhost.into(), patterns }
}

fn open(user: &str, vhost: &str) -> Request {
    Request::OpenVhost { conn: ConnId(1), user: user.into(), vhost: vhost.into() }
}

fn may_write(script: &mut Script, user: &str, exchange: &str) -> bool {
    let access = Access::exchange(Right::Write, exchange);
    let answer = script.answer(Request::Permit(of(user, "/"), vec![access]));
    matches!(answer, Answer::Permitted(answers) if answers[0].1)
}

/// Every shard is told of a change in the same order as of the topology.
fn told(script: &mut Script, command: AdminCommand) -> Vec<Change> {
    script.ask(0, 99, admin(command));
    let mut changes = Vec::new();
    loop {
        let out = script.out();
        if out.is_empty() {
            return changes;
        }
        for (to, control) in out {
            if let Control::Apply(version, change) = control {
                script.control(to, Control::Applied(version));
                changes.extend((to == 0).then_some(change));
            }
        }
    }
}

#[test]
fn users_come_and_go() {
    let mut script = Script::new();
    assert_eq!(script.answer(admin(put_user("anna", "secret"))), done());
    assert_eq!(script.answer(login("anna", "secret")), Answer::LoggedIn);
    assert_eq!(script.answer(open("anna", "/")), Answer::VhostRefused);
    assert_eq!(script.answer(admin(permit("anna", "/", ".*"))), done());
    let rights = Rights { write: Reach::Everything, ..Rights::default() };
    assert_eq!(script.answer(open("anna", "/")), opened(rights));
    let changes = told(&mut script, AdminCommand::DeleteUser("anna".into()));
    assert_eq!(changes, [Change::UserDeleted("anna".into())]);
    assert!(matches!(script.answer(login("anna", "secret")), Answer::LoginRefused { .. }));
    assert_eq!(script.answer(open("anna", "/")), Answer::VhostRefused);
    let again = script.answer(admin(AdminCommand::DeleteUser("anna".into())));
    assert_eq!(again, refused(AdminError::NoUser("anna".into())));
}

#[test]
fn rights_change_for_every_shard_before_the_answer() {
    let mut script = Script::new();
    script.answer(admin(put_user("anna", "secret")));
    let changes = told(&mut script, permit("anna", "/", "^a"));
    let some = Rights { write: Reach::Some, ..Rights::default() };
    assert_eq!(changes, [Change::RightsChanged(of("anna", "/"), some)]);
    assert!(may_write(&mut script, "anna", "abc") && !may_write(&mut script, "anna", "xyz"));
    let clear = AdminCommand::ClearPermissions { user: "anna".into(), vhost: "/".into() };
    let changes = told(&mut script, clear);
    assert_eq!(changes, [Change::RightsChanged(of("anna", "/"), Rights::default())]);
    assert!(!may_write(&mut script, "anna", "abc"));
    assert_eq!(script.answer(open("anna", "/")), Answer::VhostRefused);
    let to_nobody = script.answer(admin(permit("otto", "/", ".*")));
    assert_eq!(to_nobody, refused(AdminError::NoUser("otto".into())));
    let nowhere = script.answer(admin(permit("anna", "v", ".*")));
    assert_eq!(nowhere, refused(AdminError::NoVhost("v".into())));
}

#[test]
fn a_password_that_is_not_allowed_is_refused_and_a_hash_is_taken() {
    let validator = CredentialValidator::Length(6);
    let mut script = Script(Coordinator::new(CoordinatorConfig { validator, ..config() }));
    script.settle();
    let mut put = |credential| {
        let name = "anna".into();
        script.answer(admin(AdminCommand::PutUser { name, credential, tags: Vec::new() }))
    };
    let password = |text: &str| Credential::Password(text.into(), [1; 4]);
    assert_eq!(put(password("short")), refused(PasswordRefused::Short(6).into()));
    assert_eq!([put(password("longer")), put(Credential::None)], [done(), done()]);
}

#[test]
fn a_new_vhost_has_the_users_of_the_configuration() {
    let mut with_users = config();
    let user = |vhosts: &str| DefaultUser {
        vhosts: Some(vhosts.into()),
        password: "secret".into(),
        ..DefaultUser::default()
    };
    with_users.vhost_defaults.users =
        [("qa".into(), user("^v")), ("guest".into(), user("^w"))].into();
    let mut script = Script(Coordinator::new(with_users));
    script.settle();
    for vhost in ["v", "w"] {
        let put = AdminCommand::PutVhost(vhost.into(), VhostSettings::default());
        assert_eq!(script.answer(admin(put)), done());
    }
    assert_eq!(script.answer(login("qa", "secret")), Answer::LoggedIn);
    assert_eq!(script.answer(login("guest", "guest")), Answer::LoggedIn, "it was there before");
    assert!(matches!(script.answer(open("qa", "v")), Answer::Opened { .. }));
    assert!(matches!(script.answer(open("guest", "w")), Answer::Opened { .. }));
    assert_eq!(script.answer(open("qa", "w")), Answer::VhostRefused);
}

#[test]
fn a_vhost_goes_with_its_queues_before_the_answer() {
    let mut script = Script::new();
    let put = || admin(AdminCommand::PutVhost("v".into(), VhostSettings::default()));
    assert_eq!(script.answer(put()), done());
    let mut homes = Vec::new();
    for name in ["q", "r"] {
        script.ask(0, 1, Request::DeclareQueue("v".into(), queue(name, None)));
        let [(home, Control::Create(_, spec))] = &script.settle()[..] else { panic!("no queue") };
        script.control(*home, Control::Created(spec.id));
        script.settle();
        homes.push((*home, spec.id));
    }
    script.ask(0, 7, admin(AdminCommand::DeleteVhost("v".into())));
    let asked = script.settle();
    let freezes = asked.iter().filter(|(_, control)| matches!(control, Control::Freeze { .. }));
    assert_eq!((asked.len(), freezes.count()), (2, 2));
    // It is gone for clients, and cannot come back before its queues are.
    assert_eq!(script.answer(open("guest", "v")), Answer::NoVhost);
    assert_eq!(script.answer(put()), refused(AdminError::VhostGoes("v".into())));
    for (home, queue) in homes {
        script.control(home, Control::Frozen(queue, Ok(3)));
    }
    let rest = script.settle();
    let answers: Vec<_> = rest
        .iter()
        .filter_map(|(_, control)| match control {
            Control::Answer(RequestId(id), answer) => Some((*id, answer.clone())),
            _ => None,
        })
        .collect();
    assert_eq!(answers, [(7, done())]);
    assert!(script.0.is_idle());
    assert_eq!(script.answer(put()), done());
    // Nothing of the old one is left.
    assert_eq!(script.answer(open("guest", "v")), Answer::VhostRefused);
    assert_eq!(script.0.topology().vhost("v").unwrap().queues().count(), 0);
}

#[test]
fn a_queue_that_is_being_created_goes_with_its_vhost() {
    let mut script = Script::new();
    script.answer(admin(AdminCommand::PutVhost("v".into(), VhostSettings::default())));
    script.ask(0, 1, Request::DeclareQueue("v".into(), queue("q", None)));
    let [(home, Control::Create(_, spec))] = &script.settle()[..] else { panic!("no queue") };
    script.ask(0, 7, admin(AdminCommand::DeleteVhost("v".into())));
    script.settle();
    script.control(*home, Control::Created(spec.id));
    let out = script.settle();
    assert!(out.iter().any(|(_, control)| matches!(control, Control::Freeze { .. })), "{out:?}");
    script.control(*home, Control::Frozen(spec.id, Ok(0)));
    let out = script.settle();
    let answer = (0, Control::Answer(RequestId(7), done()));
    assert!(out.contains(&answer) && script.0.is_idle(), "{out:?}");
}

fn timeout(name: &str, pattern: &str, ms: i64) -> AdminCommand {
    let policy = Policy {
        name: name.into(),
        pattern: pattern.into(),
        apply_to: ApplyTo::Queues,
        priority: 0,
        definition: [("consumer-timeout".into(), PolicyValue::Integer(ms))].into(),
    };
    AdminCommand::SetPolicy("/".into(), PolicyScope::User, policy)
}

fn reconfigured(out: &[(u16, Control)]) -> Vec<(u16, QueueId)> {
    let mut all: Vec<_> = out
        .iter()
        .filter_map(|(home, control)| match control {
            Control::Reconfigure(queue, _) => Some((*home, *queue)),
            _ => None,
        })
        .collect();
    all.sort_unstable();
    all
}

#[test]
fn a_policy_is_answered_when_its_queues_obey_it() {
    let mut script = Script::new();
    let [one, other] = ["q1", "q2"].map(|name| script.declare(queue(name, None)));
    script.declare(queue("x", None));
    script.ask(0, 7, admin(timeout("p", "^q", 50)));
    let out = script.settle();
    let mut expected = [(one.1, one.0), (other.1, other.0)];
    expected.sort_unstable();
    assert_eq!((reconfigured(&out), out.len()), (expected.to_vec(), 2));
    script.control(one.1, Control::Reconfigured(one.0));
    assert_eq!(script.settle(), []);
    script.control(other.1, Control::Reconfigured(other.0));
    assert_eq!(script.settle(), [(0, Control::Answer(RequestId(7), done()))]);
    // The same once more changes nothing; a queue that comes later obeys it from the start.
    assert_eq!(script.answer(admin(timeout("p", "^q", 50))), done());
    script.ask(0, 8, declare(queue("q3", None)));
    let out = script.settle();
    let [(home, Control::Create(_, spec)), (told, Control::Reconfigure(queue, arguments))] =
        &out[..]
    else {
        panic!("{out:?}");
    };
    assert_eq!((told, queue), (home, &spec.id));
    let settings = [(Name::from("consumer-timeout"), PolicyValue::Integer(50))].into();
    assert_eq!(*arguments, merge::arguments(&spec.arguments, &settings));
    let clear = AdminCommand::ClearPolicy("/".into(), PolicyScope::User, "nothing".into());
    let refusal = script.answer(admin(clear));
    assert_eq!(refusal, refused(AdminError::NoPolicy("nothing".into())));
}

/// An answer that comes before the queues obey is found.
#[cfg(feature = "mutants")]
#[test]
fn a_policy_that_is_answered_early_is_found() {
    use model::mutant::{Mutant, select};
    select(Some(Mutant::PolicyAnsweredEarly));
    let caught = std::panic::catch_unwind(a_policy_is_answered_when_its_queues_obey_it);
    select(None);
    assert!(caught.is_err());
}

#[test]
fn many_queues_are_told_of_a_policy_a_few_at_a_time() {
    let mut script = Script::new();
    for number in 0..600 {
        script.declare(queue(&format!("q{number}"), None));
    }
    script.ask(0, 7, admin(timeout("p", "^q", 50)));
    let (mut told, mut under_way) = (0, reconfigured(&script.settle()));
    while let Some((home, queue)) = under_way.pop() {
        told += 1;
        assert!(under_way.len() < 256);
        script.control(home, Control::Reconfigured(queue));
        let out = script.settle();
        let is_answered = out.contains(&(0, Control::Answer(RequestId(7), done())));
        assert_eq!(is_answered, told == 600);
        under_way.extend(reconfigured(&out));
    }
    assert_eq!(told, 600);
}

#[test]
fn everything_outlives_a_restart() {
    let mut script = Script::new();
    let mut replica = Replica::default();
    script.answer(admin(AdminCommand::PutVhost("v".into(), VhostSettings::default())));
    script.answer(admin(put_user("anna", "secret")));
    script.answer(admin(put_user("otto", "secret")));
    script.answer(admin(permit("anna", "/", "^a")));
    script.answer(admin(permit("otto", "/", "^o")));
    script.answer(admin(AdminCommand::DeleteUser("otto".into())));
    script.answer(admin(timeout("p", "^q", 50)));
    replica.follow(&script.0.take_records(), script.0.topology());
    let mut script = Script(replica.restart(config()));
    script.settle();
    assert_eq!(script.answer(login("anna", "secret")), Answer::LoggedIn);
    assert!(may_write(&mut script, "anna", "abc") && !may_write(&mut script, "anna", "xyz"));
    assert!(!may_write(&mut script, "otto", "o"));
    assert!(script.0.topology().vhost("v").is_some());
    script.ask(0, 8, declare(queue("q", None)));
    assert_eq!(reconfigured(&script.settle()).len(), 1);
}

#[test]
fn a_data_folder_without_permissions_lets_everybody_go_on() {
    let mut state = MetaState::default();
    let user = |name: &str| model::access::User {
        name: name.into(),
        password_hash: "kI3GCqW5JLMJa4iX1lo7X4D6XbYqlLgxIs30+P6tENUV2POR".into(),
        algorithm: model::access::HashAlgorithm::Sha256,
        tags: Vec::new(),
    };
    state.apply(&Fact::Changed(Change::VhostCreated("/".into())));
    state.apply(&Fact::User(user("anna")));
    let start = |state: &MetaState| {
        let coordinator = Coordinator::recovered(config(), state);
        let mut script = Script(coordinator);
        script.settle();
        script
    };
    let mut script = start(&state);
    assert_eq!(script.answer(open("anna", "/")), opened(Rights::ALL));
    script.0.take_records().iter().for_each(|fact| state.apply(fact));
    // From then on a user without permissions has none.
    state.apply(&Fact::User(user("otto")));
    let mut script = start(&state);
    assert_eq!(script.answer(open("anna", "/")), opened(Rights::ALL));
    assert_eq!(script.answer(open("otto", "/")), Answer::VhostRefused);
}

#[test]
fn no_secret_is_shown() {
    let mut script = Script::new();
    script.ask(0, 1, admin(put_user("anna", "the-secret-word")));
    let hash = hash_of(&mut script);
    let shown = format!("{:?} {:?}", script.0, admin(put_user("anna", "the-secret-word")));
    assert!(!shown.contains("the-secret-word") && !shown.contains(&hash), "{shown}");
}

/// The hash of the user that was put last.
fn hash_of(script: &mut Script) -> String {
    let records = script.0.take_records();
    let mut users = records.iter().filter_map(|fact| match fact {
        Fact::User(user) => Some(user.password_hash.expose()),
        _ => None,
    });
    String::from_utf8(users.next_back().unwrap().to_vec()).unwrap()
}

#[test]
fn bounds_are_kept() {
    let mut script = Script::new();
    let config: CoordinatorConfig = config();
    assert_eq!(config.shards, 2);
    let long = "n".repeat(256);
    for name in ["", &long] {
        assert_eq!(script.answer(admin(put_user(name, "secret"))), refused(AdminError::Name));
        let put = AdminCommand::PutVhost(name.into(), VhostSettings::default());
        assert_eq!(script.answer(admin(put)), refused(AdminError::Name));
    }
    let tags = vec!["tag".into(); 65];
    let settings = VhostSettings { tags, ..VhostSettings::default() };
    let put = AdminCommand::PutVhost("v".into(), settings);
    assert_eq!(script.answer(admin(put)), refused(AdminError::TooMany("tags")));
}
