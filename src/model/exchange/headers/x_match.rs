//! The argument x-match of a binding to a headers exchange.

use amqp::Table;
use amqp::table::Value;

use crate::refusal::{Refusal, erlang};
use crate::topology::spec::Arguments;

const X_MATCH: &str = "x-match";

/// What x-match says.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mode {
    /// One argument that matches is enough.
    pub any: bool,
    /// Arguments whose names begin with `x-` count as well.
    with_x: bool,
}

impl Mode {
    /// Reads checked arguments.
    pub fn of(arguments: Table<'_>) -> Self {
        let mode = arguments.get(X_MATCH).and_then(|value| value.as_str()).unwrap_or("all");
        Self { any: mode.starts_with("any"), with_x: mode.ends_with("-with-x") }
    }

    /// The arguments that headers are compared with.
    pub fn fields<'a>(self, arguments: Table<'a>) -> impl Iterator<Item = (&'a str, Value<'a>)> {
        arguments
            .iter()
            .filter(move |(key, _)| *key != X_MATCH && (self.with_x || !key.starts_with("x-")))
    }
}

/// Checks the arguments of a binding to a headers exchange.
///
/// # Errors
/// [`Refusal::InvalidXMatch`] with what RabbitMQ says.
pub(in crate::exchange) fn validate(arguments: &Arguments) -> Result<(), Refusal> {
    let what = match arguments.table().get(X_MATCH) {
        None | Some(Value::LongString(b"all" | b"any" | b"all-with-x" | b"any-with-x")) => {
            return Ok(());
        }
        Some(value @ Value::LongString(_)) => {
            let value = erlang::term(value);
            format!(
                "Invalid x-match field value {value}; expected all, any, all-with-x, or any-with-x"
            )
        }
        Some(value) => {
            let (name, value) = (value.type_name(), erlang::term(value));
            format!("Invalid x-match field type {name} (value {value}); expected longstr")
        }
    };
    Err(Refusal::InvalidXMatch(what))
}
