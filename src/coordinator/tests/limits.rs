//! Limits of vhosts and users, message by message.

use model::access::command::{AdminAnswer, AdminCommand, AdminError, Credential};
use model::access::limits::{UserLimit, VhostLimit};
use model::access::state::UserInVhost;
use model::access::{PermissionPatterns, Rights, VhostSettings};
use model::refusal::excess::Excess;
use model::topology::Change;
use model::{ChannelId, ConnId, Refusal, RequestId, Resource};

use crate::coordinator::Coordinator;
use crate::coordinator::tests::script::{Script, config, delete, queue};
use crate::mesh::control::{Answer, Control, Request};
use crate::store::meta::MetaState;

fn done(script: &mut Script, command: AdminCommand) {
    let answer = script.answer(Request::Admin(Box::new(command)));
    assert_eq!(answer, Answer::Admin(AdminAnswer::Done));
}

fn user(name: &str) -> [AdminCommand; 2] {
    let credential = Credential::Password("secret".into(), [5; 4]);
    let (user, vhost) = (name.into(), "/".into());
    let patterns = PermissionPatterns::all();
    [
        AdminCommand::PutUser { name: name.into(), credential, tags: Vec::new() },
        AdminCommand::SetPermissions { user, vhost, patterns },
    ]
}

fn limit_user(name: &str, limit: UserLimit, most: i64) -> AdminCommand {
    AdminCommand::SetUserLimits(name.into(), [(limit, most)].into())
}

fn limit_vhost(name: &str, limit: VhostLimit, most: i64) -> AdminCommand {
    AdminCommand::SetVhostLimits(name.into(), [(limit, most)].into())
}

/// Two users with all rights.
fn script() -> Script {
    let mut script = Script::new();
    [user("anna"), user("otto")].concat().into_iter().for_each(|it| done(&mut script, it));
    script
}

fn open(script: &mut Script, conn: u64, user: &str) -> Result<bool, Excess> {
    let request = Request::OpenVhost { conn: ConnId(conn), user: user.into(), vhost: "/".into() };
    match script.answer(request) {
        Answer::Opened { rights: Rights::ALL, counts_channels } => Ok(counts_channels),
        Answer::Refused(Refusal::Excess(excess)) => Err(excess),
        other => panic!("{other:?}"),
    }
}

fn channel(script: &mut Script, channel: u64, user: &str) -> Result<(), Excess> {
    let request = Request::OpenChannel { channel: ChannelId(channel), user: user.into() };
    match script.answer(request) {
        Answer::Done => Ok(()),
        Answer::Refused(Refusal::Excess(excess)) => Err(excess),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_user_and_a_vhost_have_no_more_connections_than_they_may() {
    let mut script = script();
    done(&mut script, limit_user("anna", UserLimit::Connections, 1));
    assert_eq!(open(&mut script, 1, "anna"), Ok(false));
    let of_user = Err(Excess::UserConnections("anna".into(), 1));
    assert_eq!(open(&mut script, 2, "anna"), of_user);
    assert_eq!(open(&mut script, 3, "otto"), Ok(false));
    done(&mut script, limit_vhost("/", VhostLimit::Connections, 2));
    let of = UserInVhost { user: "anna".into(), vhost: "/".into() };
    // The vhost's comes first; what is open stays open.
    let of_vhost = Err(Excess::VhostConnections(of.clone(), 2));
    assert_eq!(open(&mut script, 2, "anna"), of_vhost);
    done(&mut script, limit_vhost("/", VhostLimit::Connections, 0));
    assert_eq!(open(&mut script, 1, "anna"), Ok(false), "it counts already");
    script.control(1, Control::ConnectionLeft(ConnId(1)));
    assert_eq!(open(&mut script, 1, "anna"), Err(Excess::VhostConnections(of, 0)));
    done(&mut script, AdminCommand::ClearVhostLimits("/".into(), None));
    assert_eq!(open(&mut script, 1, "anna"), Ok(false));
    assert_eq!(open(&mut script, 2, "anna"), of_user);
    done(&mut script, limit_user("anna", UserLimit::Connections, -1));
    assert_eq!(open(&mut script, 2, "anna"), Ok(false));
}

#[test]
fn a_vhost_has_no_more_queues_than_it_may() {
    let mut script = script();
    let vhost = || AdminCommand::PutVhost("v".into(), VhostSettings::default());
    done(&mut script, vhost());
    done(&mut script, limit_vhost("v", VhostLimit::Queues, 0));
    done(&mut script, limit_vhost("/", VhostLimit::Queues, 1));
    let (one, home) = script.declare(queue("one", None));
    let declare = |vhost: &str, name| Request::DeclareQueue(vhost.into(), queue(name, None));
    let refused = |vhost: &str, most| {
        let excess = Excess::VhostQueues(Resource::queue(vhost, "two"), most);
        Answer::Refused(Refusal::Excess(excess))
    };
    assert_eq!(script.answer(declare("/", "one")), Answer::Done, "it exists");
    assert_eq!(script.answer(declare("/", "two")), refused("/", 1));
    assert_eq!(script.answer(declare("v", "two")), refused("v", 0));
    script.ask(0, 7, delete("one", ConnId(1)));
    script.settle();
    script.control(home, Control::Frozen(one, Ok(0)));
    script.settle();
    script.declare(queue("two", None));
    // A vhost that goes takes its limit with it.
    done(&mut script, AdminCommand::DeleteVhost("v".into()));
    done(&mut script, vhost());
    script.ask(0, 8, declare("v", "two"));
    assert!(matches!(script.settle()[..], [(_, Control::Create(..))]));
}

#[test]
fn channels_of_a_user_count_once_they_are_limited() {
    let mut script = script();
    assert_eq!(open(&mut script, 1, "anna"), Ok(false));
    let limit = limit_user("anna", UserLimit::Channels, 2);
    script.ask(0, 9, Request::Admin(Box::new(limit)));
    let told = script.out();
    let counted = Change::ChannelsCounted("anna".into(), true);
    assert!(matches!(&told[..], [(0, Control::Apply(_, change)), (1, _)] if *change == counted));
    // The shards say what is open before they say that they have applied it.
    script.control(0, Control::ChannelsOpen("anna".into(), vec![ChannelId(1)]));
    for (to, control) in told {
        let Control::Apply(version, _) = control else { panic!("{control:?}") };
        script.control(to, Control::Applied(version));
    }
    let answers = script.settle();
    assert!(matches!(answers[..], [(0, Control::Answer(RequestId(9), _))]), "{answers:?}");
    assert_eq!(open(&mut script, 2, "anna"), Ok(true));
    assert_eq!(channel(&mut script, 2, "anna"), Ok(()));
    let refused = Err(Excess::UserChannels("anna".into(), 2));
    assert_eq!(channel(&mut script, 3, "anna"), refused);
    assert_eq!(channel(&mut script, 4, "otto"), Ok(()));
    for channel in [1, 3] {
        script.control(0, Control::ChannelLeft(ChannelId(channel)));
    }
    assert_eq!(channel(&mut script, 5, "anna"), Ok(()));
    // A user that comes back has no limit.
    done(&mut script, AdminCommand::DeleteUser("anna".into()));
    user("anna").into_iter().for_each(|command| done(&mut script, command));
    assert_eq!(open(&mut script, 6, "anna"), Ok(false));
}

#[test]
fn limits_of_what_does_not_exist_are_refused() {
    let mut script = script();
    for (command, why) in [
        (limit_user("nobody", UserLimit::Channels, 1), AdminError::NoUser("nobody".into())),
        (AdminCommand::ClearUserLimits("x".into(), None), AdminError::NoUser("x".into())),
        (limit_vhost("v", VhostLimit::Queues, 1), AdminError::NoVhost("v".into())),
        (AdminCommand::ClearVhostLimits("v".into(), None), AdminError::NoVhost("v".into())),
    ] {
        let answer = script.answer(Request::Admin(Box::new(command)));
        assert_eq!(answer, Answer::Admin(AdminAnswer::Refused(why)));
    }
}

#[test]
fn limits_outlive_a_restart() {
    let (mut script, mut state) = (script(), MetaState::default());
    done(&mut script, limit_user("anna", UserLimit::Channels, 7));
    done(&mut script, limit_user("anna", UserLimit::Connections, 0));
    done(&mut script, limit_user("otto", UserLimit::Connections, 0));
    done(&mut script, limit_vhost("/", VhostLimit::Queues, 0));
    let clear = AdminCommand::ClearUserLimits("anna".into(), Some(UserLimit::Connections));
    done(&mut script, clear);
    script.0.take_records().iter().for_each(|fact| state.apply(fact));
    let mut script = Script(Coordinator::recovered(config(), &state));
    script.settle();
    assert_eq!(open(&mut script, 1, "anna"), Ok(true));
    assert_eq!(open(&mut script, 2, "otto"), Err(Excess::UserConnections("otto".into(), 0)));
    let answer = script.answer(Request::DeclareQueue("/".into(), queue("q", None)));
    let excess = Excess::VhostQueues(Resource::queue("/", "q"), 0);
    assert_eq!(answer, Answer::Refused(Refusal::Excess(excess)));
}
