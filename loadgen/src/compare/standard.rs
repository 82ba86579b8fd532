//! The standard scenarios, compiled into the program so that `loadgen suite` works anywhere.

macro_rules! set {
    ($($name:literal)*) => {
        /// Names and texts, in the order in which they run.
        pub const STANDARD: &[(&str, &str)] =
            &[$(($name, include_str!(concat!("../../scenarios/", $name, ".toml")))),*];
    };
}

set! {
    "flat-out-16"
    "flat-out-1k"
    "flat-out-16k"
    "flat-out-1m"
    "ack-each"
    "ack-many"
    "ack-1000"
    "confirms-1"
    "confirms-100"
    "confirms-1000"
    "queue-growth"
    "drain"
    "drain-10"
    "single-active-consumer"
    "five-queues"
    "fan-in-1000"
    "queues-1000"
    "fan-out-10"
    "sizes-mixed"
    "message-ttl"
    "nack-drop"
    "nack-requeue"
    "idle-1000"
    "low-rate-1000"
    "latency-sweep"
    "churn-connections"
    "churn-channels"
    "churn-queues"
    "churn-bindings"
    "churn-consumers"
}
