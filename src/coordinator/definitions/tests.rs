//! Definitions files, object by object.

use model::Entropy;
use model::access::credentials::CredentialValidator;
use model::access::defaults::{DefaultLimits, DefaultPolicy, VhostDefaults};
use model::access::limits::{UserLimit, VhostLimit};
use model::policy::PolicyValue;

use crate::coordinator::Coordinator;
use crate::coordinator::definitions::{DefinitionsError, Import, ImportRules, import as import_by};
use crate::coordinator::tests::script::{Script, config, login};
use crate::mesh::control::Answer;
use crate::store::meta::MetaState;

/// What a broker with RabbitMQ 3.10 exports, shortened.
const FILE: &str = r##"{
    "rabbit_version": "3.10.0",
    "users": [
        {"name": "anna", "password_hash": "kI3GCqW5JLMJa4iX1lo7X4D6XbYqlLgxIs30+P6tENUV2POR",
         "hashing_algorithm": "rabbit_password_hashing_sha256", "tags": ["administrator"],
         "limits": {"max-connections": 9, "max-channels": -1}},
        {"name": "otto", "password_hash": "", "tags": "monitoring, other"}],
    "vhosts": [{"name": "/"}, {"name": "v", "description": "a text", "tags": ["one"],
                                "limits": {"max-queues": 1}}],
    "permissions": [
        {"user": "anna", "vhost": "/", "configure": ".*", "write": ".*", "read": ".*"},
        {"user": "otto", "vhost": "v", "configure": "", "write": "^(?!amq\\.).*", "read": "^q"}],
    "topic_permissions": [
        {"user": "otto", "vhost": "v", "exchange": "amq.topic", "write": "^{username}",
         "read": ""}],
    "parameters": [
        {"vhost": "v", "component": "vhost-limits", "name": "limits", "value":
         {"max-queues": 1, "max-connections": -1}},
        {"vhost": "v", "component": "operator_policy", "name": "o", "value":
         {"pattern": "^q", "apply-to": "queues", "definition": {"ha-mode": "all"}}}],
    "global_parameters": [{"name": "cluster_name", "value": "rabbit@here"}],
    "policies": [
        {"vhost": "v", "name": "p", "pattern": "^q", "apply-to": "queues", "priority": 1,
         "definition": {"consumer-timeout": 60000, "ha-mode": "exactly", "ha-params": 2}}],
    "exchanges": [
        {"name": "x", "vhost": "v", "type": "topic", "durable": true, "auto_delete": false,
         "internal": false,
         "arguments": {"alternate-exchange": "amq.fanout", "n": [1, {"a": true}]}}],
    "queues": [
        {"name": "q", "vhost": "v", "durable": true, "auto_delete": false, "arguments": {}},
        {"name": "t", "vhost": "v", "durable": false, "auto_delete": false, "arguments": {}}],
    "bindings": [
        {"source": "x", "vhost": "v", "destination": "q", "destination_type": "queue",
         "routing_key": "#", "arguments": {}},
        {"source": "x", "vhost": "v", "destination": "t", "destination_type": "queue",
         "routing_key": "#", "arguments": {}},
        {"source": "amq.fanout", "vhost": "v", "destination": "x", "destination_type": "exchange",
         "routing_key": "", "arguments": {}}]
}"##;

/// With these rules beside the defaults of new vhosts.
fn import(
    state: &MetaState,
    defaults: &VhostDefaults,
    files: &[String],
) -> Result<Import, DefinitionsError> {
    import_with(state, (defaults, &CredentialValidator::Any), files)
}

pub(super) fn import_with(
    state: &MetaState,
    (defaults, validator): (&VhostDefaults, &CredentialValidator),
    files: &[String],
) -> Result<Import, DefinitionsError> {
    let salts = &mut Entropy::from_seed(1).salts();
    import_by(state, ImportRules { defaults, validator, salts }, files)
}

pub(super) fn imported(state: &mut MetaState, text: &str) -> Import {
    let import = import(state, &VhostDefaults::default(), &[text.to_owned()]).unwrap();
    import.facts.iter().for_each(|fact| state.apply(fact));
    import
}

pub(super) fn refused(text: &str) -> String {
    let mut state = MetaState::default();
    imported(&mut state, r#"{"vhosts": [{"name": "/"}], "users": [{"name": "u"}]}"#);
    import(&state, &VhostDefaults::default(), &[text.to_owned()]).unwrap_err().to_string()
}

#[test]
fn a_fresh_broker_has_what_the_file_says_and_nothing_else() {
    let mut state = MetaState::default();
    let import = imported(&mut state, FILE);
    assert_eq!(import.warnings.len(), 3, "{:?}", import.warnings);
    assert_eq!(state.users.keys().map(|name| &**name).collect::<Vec<_>>(), ["anna", "otto"]);
    let vhost = &state.vhosts["v"];
    assert_eq!((vhost.queues.len(), vhost.exchanges.len(), vhost.bindings().count()), (1, 1, 2));
    assert_eq!((state.access.policies.len(), state.access.permissions.len()), (2, 2));
    assert_eq!(state.access.vhost_limits["v"], [(VhostLimit::Queues, 1)].into());
    assert_eq!(state.access.user_limits["anna"], [(UserLimit::Connections, 9)].into());
    let mut script = Script(Coordinator::recovered(config(), &state));
    script.settle();
    assert_eq!(script.answer(login("anna", "test12")), Answer::LoggedIn);
    assert!(matches!(script.answer(login("guest", "guest")), Answer::LoginRefused { .. }));
    assert!(script.0.topology().vhost("v").unwrap().queue("q").is_some());
}

#[test]
fn a_second_import_changes_nothing() {
    let mut state = MetaState::default();
    imported(&mut state, FILE);
    assert_eq!(import(&state, &VhostDefaults::default(), &[FILE.to_owned()]).unwrap().facts, []);
}

#[test]
fn the_types_of_exchanges_are_known_and_their_rules_hold() {
    let file = |of: &str, key: &str| {
        format!(
            r#"{{"vhosts": [{{"name": "/"}}], "queues": [{{"vhost": "/", "name": "q"}}],
            "exchanges": [{{"vhost": "/", "name": "x", "type": {of}}}],
            "bindings": [{{"vhost": "/", "source": "x", "destination": "q",
                "destination_type": "queue", "routing_key": "{key}"}}]}}"#
        )
    };
    for (of, key) in [
        (r#""x-consistent-hash", "arguments": {"hash-property": "message_id"}"#, "10"),
        (r#""x-modulus-hash""#, "any"),
        (r#""x-random""#, ""),
        (r#""x-local-random""#, ""),
    ] {
        let mut state = MetaState::default();
        imported(&mut state, &file(of, key));
        assert_eq!(state.vhosts["/"].bindings().count(), 1, "{of}");
    }
    let of = r#""x-consistent-hash", "arguments": {"hash-property": "app_id"}"#;
    for (text, why) in [
        (file(r#""x-consistent-hash""#, "x"), "an integer: <<\"x\">>"),
        (file(of, "1"), "Unsupported property: app_id"),
        (file(r#""x-local-random""#, "k"), "Non empty binding 'k' key not permitted"),
    ] {
        let refusal = refused(&text);
        assert!(refusal.ends_with(why), "{refusal}\nhas not {why}");
    }
}

#[test]
fn files_are_taken_together_or_not_at_all() {
    let bad = r#"{"queues": [{"name": "q", "vhost": "nowhere"}]}"#;
    let files = [FILE.to_owned(), bad.to_owned()];
    let refusal =
        import(&MetaState::default(), &VhostDefaults::default(), &files).unwrap_err().to_string();
    assert_eq!(refusal, "queue 'q' in vhost 'nowhere': Virtual host 'nowhere' does not exist");
}

#[test]
fn a_file_keeps_the_limits_that_were_there_before_it() {
    let mut state = MetaState::default();
    // What was there before a limit was lowered is taken with it.
    imported(&mut state, &FILE.replace("\"max-queues\": 1", "\"max-queues\": 0"));
    assert_eq!(state.access.vhost_limits["v"], [(VhostLimit::Queues, 0)].into());
    let more = r#"{"queues": [{"name": "q", "vhost": "v"}, {"name": "r", "vhost": "v"}]}"#;
    let refusal =
        import(&state, &VhostDefaults::default(), &[more.to_owned()]).unwrap_err().to_string();
    assert_eq!(refusal, "queue 'r' in vhost 'v': queue limit in vhost 'v' (0) is reached");
    let unlimited = r#"{"parameters": [
        {"vhost": "v", "component": "vhost-limits", "name": "limits", "value": {}}]}"#;
    let files = [unlimited.to_owned(), more.to_owned()];
    assert!(
        import(&state, &VhostDefaults::default(), &files).is_ok(),
        "the limit goes with the file before"
    );
}

#[test]
fn new_vhosts_get_what_the_configuration_gives_them() {
    let mut defaults = VhostDefaults::default();
    let limits = [(VhostLimit::Queues, 1)].into();
    defaults.limits.insert("a".into(), DefaultLimits { vhosts: None, limits });
    let definition = [("max-length".into(), PolicyValue::Integer(5))].into();
    let policy = DefaultPolicy { definition, ..DefaultPolicy::default() };
    defaults.policies.insert("p".into(), policy);
    let mut state = MetaState::default();
    let take = |state: &mut MetaState, text: &str| {
        let import = import(state, &defaults, &[text.to_owned()])?;
        import.facts.iter().for_each(|fact| state.apply(fact));
        Ok::<_, DefinitionsError>(())
    };
    let two = r#"{"vhosts": [{"name": "v"}],
        "queues": [{"name": "q", "vhost": "v"}, {"name": "r", "vhost": "v"}]}"#;
    let refusal = take(&mut state, two).unwrap_err().to_string();
    assert_eq!(refusal, "queue 'r' in vhost 'v': queue limit in vhost 'v' (1) is reached");
    take(&mut state, r#"{"vhosts": [{"name": "v"}]}"#).unwrap();
    assert_eq!((state.access.vhost_limits.len(), state.access.policies.len()), (1, 1));
    // They are no defaults any more for a vhost that exists.
    let none = r#"{"parameters": [
        {"vhost": "v", "component": "vhost-limits", "name": "limits", "value": {}}]}"#;
    take(&mut state, none).unwrap();
    take(&mut state, two).unwrap();
    assert_eq!(state.access.vhost_limits.len(), 0);
}

#[test]
fn the_object_that_cannot_be_taken_is_named() {
    for (text, sentence) in [
        ("[]", "the file: is no JSON object"),
        (r#"{"users": 1}"#, "users: is no list"),
        (
            r#"{"users": [{"name": "a", "password_hash": "x"}]}"#,
            "user 'a': the password hash of user 'a' is not valid",
        ),
        (r#"{"users": [{"tags": []}]}"#, "user number 1: 'name' is missing"),
        (
            r#"{"permissions": [{"user": "o", "vhost": "/",
                "configure": "", "write": "", "read": ""}]}"#,
            "permission 'o' in vhost '/': User \"o\" does not exist",
        ),
        (
            r#"{"permissions": [{"user": "u", "vhost": "/",
                "configure": "", "write": "(", "read": ""}]}"#,
            "permission 'u' in vhost '/': invalid regular expression '(': ",
        ),
        (
            r#"{"parameters": [{"vhost": "/", "component": "shovel", "name": "s", "value": {}}]}"#,
            "parameter 's' in vhost '/': component 'shovel' is not built",
        ),
        (
            r#"{"parameters": [{"vhost": "/", "component": "vhost-limits", "name": "limits",
                "value": {"max-channels": 1}}]}"#,
            "parameter 'limits' in vhost '/': there is no limit 'max-channels'",
        ),
        (
            r#"{"parameters": [{"vhost": "/", "component": "vhost-limits", "name": "other",
                "value": {}}]}"#,
            "parameter 'other' in vhost '/': limits of a vhost have the name 'limits'",
        ),
        (
            r#"{"users": [{"name": "u", "limits": {"max-channels": "2"}}]}"#,
            "user 'u': 'max-channels' is no whole number",
        ),
        (
            r#"{"policies": [{"vhost": "/", "name": "p", "pattern": "", "definition": {"x": 1}}]}"#,
            "policy 'p' in vhost '/': Validation failed\n\n[{<<\"x\">>,1}] are not recognised",
        ),
        (
            r#"{"exchanges": [{"vhost": "/", "name": "x", "type": "x-delayed-message"}]}"#,
            "exchange 'x' in vhost '/': PRECONDITION_FAILED - unknown exchange type",
        ),
        (
            r#"{"queues": [{"vhost": "/", "name": "q", "arguments": {"x-queue-type": "quorum"}}]}"#,
            "queue 'q' in vhost '/': PRECONDITION_FAILED - invalid arg 'x-queue-type'",
        ),
        (
            r#"{"bindings": [{"vhost": "/", "source": "x", "destination": "q",
                "destination_type": "queue"}]}"#,
            "binding 'q' in vhost '/': NOT_FOUND - no exchange 'x' in vhost '/'",
        ),
    ] {
        let refusal = refused(text);
        assert!(refusal.starts_with(sentence), "{refusal}\nis not {sentence}");
    }
}
