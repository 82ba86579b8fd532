//! Shapes of definitions files: versions of RabbitMQ from 2 to 4, and files written by hand.

use model::access::VhostSettings;
use model::access::command::{AdminAnswer, AdminCommand, AdminError};
use model::access::credentials::CredentialValidator;
use model::access::defaults::{DefaultUser, VhostDefaults};
use model::access::state::UserInVhost;
use model::access::{HashAlgorithm, PermissionPatterns};

use crate::coordinator::Coordinator;
use crate::coordinator::definitions::cluster_name;
use crate::coordinator::definitions::tests::{import_with, imported, refused};
use crate::coordinator::tests::script::{Script, config, login};
use crate::mesh::control::{Answer, Request};
use crate::store::meta::MetaState;

fn admin(command: AdminCommand) -> Request {
    Request::Admin(Box::new(command))
}

fn state(text: &str) -> MetaState {
    let mut state = MetaState::default();
    imported(&mut state, text);
    state
}

fn logs_in(state: &MetaState, user: &str, password: &str) -> bool {
    let mut script = Script(Coordinator::recovered(config(), state));
    script.settle();
    script.answer(login(user, password)) == Answer::LoggedIn
}

#[test]
fn a_password_in_clear_logs_in_and_is_kept_as_a_hash() {
    let text = r#"{"vhosts": [{"name": "/"}], "users": [
        {"name": "anna", "password": "secret", "tags": "administrator"},
        {"name": "none", "password": "", "tags": ""}]}"#;
    let mut state = state(text);
    assert!(logs_in(&state, "anna", "secret") && !logs_in(&state, "anna", ""));
    assert!(!logs_in(&state, "none", ""));
    assert_eq!(imported(&mut state, text).facts, [], "the hash stays");
    imported(&mut state, &text.replace("secret", "Secret"));
    assert!(logs_in(&state, "anna", "Secret") && !logs_in(&state, "anna", "secret"));
}

#[test]
fn a_password_and_a_hash_exclude_each_other() {
    let text = r#"{"users": [{"name": "a", "password": "x", "password_hash": "", "tags": ""}]}"#;
    assert_eq!(refused(text), "user 'a': both 'password' and 'password_hash' are there");
}

#[test]
fn passwords_in_clear_are_checked_and_hashes_are_not() {
    let validator = CredentialValidator::Length(6);
    let file = |credential: &str| format!(r#"{{"users": [{{"name": "a", {credential}}}]}}"#);
    let import = |credential: &str| {
        let rules = (&VhostDefaults::default(), &validator);
        import_with(&MetaState::default(), rules, &[file(credential)])
    };
    for credential in [r#""password": "short""#, r#""password": """#, r#""tags": """#] {
        let refused = import(credential).unwrap_err().to_string();
        assert_eq!(refused, "user 'a': minimum required password length is 6", "{credential}");
    }
    for credential in [r#""password": "longer""#, r#""password_hash": """#] {
        assert!(import(credential).is_ok(), "{credential}");
    }
}

#[test]
fn a_hash_is_of_the_algorithm_of_its_version() {
    // MD5 of a salt of four bytes and "secret".
    let hash = "AQIDBDgk9ci8Lfh6CKE9Y0AUfmU=";
    let file = |version: &str| {
        format!(
            r#"{{{version} "users": [{{"name": "a", "password_hash": "{hash}", "tags": ""}}]}}"#
        )
    };
    for (version, algorithm) in [
        (r#""rabbit_version": "2.8.6","#, HashAlgorithm::Md5),
        (r#""rabbit_version": "3.0.4","#, HashAlgorithm::Md5),
        (r#""rabbit_version": "3.5.7","#, HashAlgorithm::Md5),
        (r#""rabbit_version": "3.6.0","#, HashAlgorithm::Sha256),
        (r#""rabbit_version": "3.10.8","#, HashAlgorithm::Sha256),
        ("", HashAlgorithm::Sha256),
    ] {
        let mut state = MetaState::default();
        let import = imported(&mut state, &file(version));
        assert_eq!(state.users["a"].algorithm, algorithm, "{version}");
        let is_md5 = algorithm == HashAlgorithm::Md5;
        assert_eq!(import.warnings.is_empty(), is_md5, "{:?}", import.warnings);
        assert_eq!(logs_in(&state, "a", "secret"), is_md5, "{version}");
    }
}

#[test]
fn the_first_versions_said_that_a_user_is_an_administrator() {
    let state = state(
        r#"{"users": [{"name": "a", "password_hash": "", "administrator": true},
            {"name": "b", "password_hash": "", "administrator": false}]}"#,
    );
    assert_eq!(state.users["a"].tags, ["administrator".into()]);
    assert_eq!(state.users["b"].tags, []);
}

#[test]
fn a_new_user_may_have_its_permissions_with_it() {
    let text = r#"{"vhosts": [{"name": "/"}], "users": [{"name": "a", "password": "secret",
        "tags": "", "permissions": {"/": {"configure": "", "write": "^x", "read": ".*"}}}]}"#;
    let mut state = state(text);
    let of = UserInVhost { user: "a".into(), vhost: "/".into() };
    let patterns =
        PermissionPatterns { configure: "".into(), write: "^x".into(), read: ".*".into() };
    assert_eq!(state.access.permissions[&of], patterns);
    imported(&mut state, &text.replace("^x", "^y"));
    assert_eq!(state.access.permissions[&of], patterns, "the user is not new any more");
    let refusal = refused(&text.replace("\"/\": {\"conf", "\"w\": {\"conf"));
    assert_eq!(refusal, "user 'a': Virtual host 'w' does not exist");
}

#[test]
fn settings_of_a_vhost_stand_in_the_object_or_in_its_metadata() {
    let text = r#"{"vhosts": [
        {"name": "a", "description": "text", "tags": "x,y", "default_queue_type": "undefined"},
        {"name": "b", "limits": [], "metadata": {"description": "text", "tags": ["x", "y"],
            "default_queue_type": "classic", "protected_from_deletion": true, "other": 1}}]}"#;
    let mut state = state(text);
    let settings = VhostSettings {
        description: "text".into(),
        tags: vec!["x".into(), "y".into()],
        ..VhostSettings::default()
    };
    assert_eq!(state.access.vhosts["a"], settings);
    let more =
        VhostSettings { default_queue_type: Some("classic".into()), protected: true, ..settings };
    assert_eq!(state.access.vhosts["b"], more);
    // What an older file cannot say stays.
    imported(&mut state, r#"{"vhosts": [{"name": "b"}]}"#);
    let bare = VhostSettings { description: "".into(), tags: Vec::new(), ..more };
    assert_eq!(state.access.vhosts["b"], bare);
    for (kind, why) in [
        ("quorum", "queue type 'quorum' is not supported yet"),
        ("rabbit_stream_queue", "queue type 'stream' is not supported yet"),
        ("linked", "linked is not a valid queue type"),
    ] {
        let text = format!(
            r#"{{"vhosts": [{{"name": "q", "metadata": {{"default_queue_type": "{kind}"}}}}]}}"#
        );
        assert_eq!(refused(&text), format!("vhost 'q': {why}"));
    }
}

#[test]
fn a_protected_vhost_is_not_deleted() {
    let text = r#"{"vhosts": [{"name": "v", "metadata": {"protected_from_deletion": true}}]}"#;
    let mut script = Script(Coordinator::recovered(config(), &state(text)));
    script.settle();
    let refusal = AdminAnswer::Refused(AdminError::Protected("v".into()));
    let delete = || admin(AdminCommand::DeleteVhost("v".into()));
    assert_eq!(script.answer(delete()), Answer::Admin(refusal));
    script.answer(admin(AdminCommand::PutVhost("v".into(), VhostSettings::default())));
    assert_eq!(script.answer(delete()), Answer::Admin(AdminAnswer::Done));
}

#[test]
fn global_parameters_are_kept_and_one_is_the_clusters_name() {
    let text = r#"{"global_parameters": [
        {"name": "cluster_name", "value": "rabbit@here"},
        {"name": "internal_cluster_id", "value": "rabbitmq-cluster-id-1"},
        {"name": "cluster_tags", "value": []},
        {"name": "mqtt_port_to_vhost_mapping", "value": {"1883": "v"}}]}"#;
    let mut state = state(text);
    assert_eq!(cluster_name(&state).as_deref(), Some("rabbit@here"));
    assert_eq!(state.access.global_parameters.len(), 4);
    let mapping = &*state.access.global_parameters["mqtt_port_to_vhost_mapping"];
    assert_eq!(mapping, r#"{"1883":"v"}"#);
    assert_eq!(imported(&mut state, text).facts, []);
    imported(&mut state, r#"{"global_parameters": [{"name": "cluster_name", "value": 1}]}"#);
    assert_eq!(cluster_name(&state), None);
    let refusal = refused(r#"{"global_parameters": [{"name": "x"}]}"#);
    assert_eq!(refusal, "global parameter 'x': 'value' is missing");
}

#[test]
fn components_that_are_not_built_are_refused_by_name() {
    let refused = |component: &str| {
        let parameter = format!(r#"{{"vhost": "/", "component": "{component}", "name": "s"}}"#);
        refused(&format!(r#"{{"parameters": [{parameter}]}}"#))
    };
    for (component, why) in [
        ("shovel", "component 'shovel' is not built: shovels do not run here"),
        (
            "federation-upstream",
            "component 'federation-upstream' is not built: nothing is federated here",
        ),
        (
            "federation-upstream-set",
            "component 'federation-upstream-set' is not built: nothing is federated here",
        ),
        ("other", "Validation failed\n\ncomponent other not found\n"),
    ] {
        assert_eq!(refused(component), format!("parameter 's' in vhost '/': {why}"));
    }
}

#[test]
fn objects_with_names_of_the_broker_are_left_out_with_what_is_bound_to_them() {
    let mut state = MetaState::default();
    let import = imported(
        &mut state,
        r##"{"vhosts": [{"name": "/"}],
        "exchanges": [{"vhost": "/", "name": "amq.rabbitmq.event", "type": "topic"},
            {"vhost": "/", "name": "amq.topic", "type": "topic"},
            {"vhost": "/", "name": "", "type": "direct"}],
        "queues": [{"vhost": "/", "name": "amq.gen-abc"}, {"vhost": "/", "name": "q"}],
        "bindings": [
            {"vhost": "/", "source": "amq.rabbitmq.event", "destination": "q",
                "destination_type": "queue", "routing_key": "#"},
            {"vhost": "/", "source": "amq.topic", "destination": "amq.gen-abc",
                "destination_type": "queue", "routing_key": "#"},
            {"vhost": "/", "source": "amq.topic", "destination": "q",
                "destination_type": "queue", "routing_key": "#"}]}"##,
    );
    let vhost = &state.vhosts["/"];
    assert_eq!((vhost.queues.len(), vhost.exchanges.len(), vhost.bindings().count()), (1, 0, 1));
    let why = "has a name that begins with 'amq.', and is left out";
    assert_eq!(
        import.warnings,
        [
            format!("exchange 'amq.rabbitmq.event' in vhost '/': {why}"),
            format!("queue 'amq.gen-abc' in vhost '/': {why}"),
        ]
    );
}

#[test]
fn a_file_is_read_as_rabbitmq_reads_it() {
    for text in ["", "\u{FEFF}{}", "{} // nothing", r#"{"vhosts": [{"name": "/",},],}"#] {
        assert!(state(text).access.in_force, "{text}");
    }
    let sections = r#"{"something": 1, "bindings": [], "rabbitmq_definition_format": "cluster"}"#;
    imported(&mut MetaState::default(), sections);
}

#[test]
fn new_vhosts_get_users_that_keep_their_passwords() {
    let mut defaults = VhostDefaults::default();
    let user = DefaultUser {
        vhosts: Some("^v".into()),
        password: "secret".into(),
        tags: vec!["management".into()],
        ..DefaultUser::default()
    };
    defaults.users.insert("qa".into(), user);
    let mut state = MetaState::default();
    let take = |state: &mut MetaState, text: &str| {
        let rules = (&defaults, &CredentialValidator::Any);
        let import = import_with(state, rules, &[text.to_owned()]).unwrap();
        import.facts.iter().for_each(|fact| state.apply(fact));
    };
    take(&mut state, r#"{"vhosts": [{"name": "v1"}, {"name": "w"}]}"#);
    assert!(logs_in(&state, "qa", "secret"));
    assert_eq!(state.access.permissions.len(), 1);
    take(&mut state, r#"{"users": [{"name": "qa", "password": "other"}]}"#);
    take(&mut state, r#"{"vhosts": [{"name": "v2"}]}"#);
    assert!(logs_in(&state, "qa", "other"));
    assert_eq!(state.access.permissions.len(), 2);
}
