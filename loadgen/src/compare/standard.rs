//! The standard set of scenarios, part of the program: `loadgen suite` works anywhere.

macro_rules! set {
    ($($name:literal)*) => {
        /// Names and texts, in the order in which they run.
        pub const STANDARD: &[(&str, &str)] =
            &[$(($name, include_str!(concat!("../../scenarios/", $name, ".toml")))),*];
    };
}

set! {
    "flat-out-16"
    "latency-sweep"
}
