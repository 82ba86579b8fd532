//! Objects of a definitions file, field by field. Every error names the object.

use amqp::Value;
use amqp::table::{ArrayWriter, TableWriter};
use model::Name;
use model::access::limits::{LimitKind, WantedLimits};
use model::policy::{Definition, PolicyValue};
use serde_json::{Map, Value as Json};

/// Arguments deeper than this are refused.
const DEPTH_MAX: usize = 16;

/// Why definitions are refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{object}: {why}")]
pub struct DefinitionsError {
    /// The object, as `queue 'q' in vhost '/'`.
    pub object: String,
    /// What is wrong with it.
    pub why: String,
}

/// An object of a section.
pub(super) struct Object<'j> {
    section: &'static str,
    number: usize,
    fields: &'j Map<String, Json>,
    /// The fields that name it: its own, or those of the object that it is in.
    named: &'j Map<String, Json>,
}

/// The objects of a section; none if there is no such section.
pub(super) fn section<'j>(
    file: &'j Map<String, Json>,
    section: &'static str,
) -> Result<Vec<Object<'j>>, DefinitionsError> {
    let refused = |why: &str| DefinitionsError { object: section.to_owned(), why: why.to_owned() };
    let Some(items) = file.get(section) else { return Ok(Vec::new()) };
    let items = items.as_array().ok_or_else(|| refused("is no list"))?;
    let objects = (1..).zip(items).map(|(number, item)| {
        let fields = item.as_object().ok_or_else(|| refused("has an item that is no object"))?;
        Ok(Object { section, number, fields, named: fields })
    });
    objects.collect()
}

impl<'j> Object<'j> {
    /// Refuses the object.
    pub fn refused(&self, why: impl ToString) -> DefinitionsError {
        let field = |key: &str| self.named.get(key).and_then(Json::as_str);
        let name = ["name", "user", "destination"].into_iter().find_map(field);
        let name =
            name.map_or_else(|| format!("number {}", self.number), |name| format!("'{name}'"));
        let vhost = field("vhost").map(|vhost| format!(" in vhost '{vhost}'"));
        let kind = self.section.strip_suffix("ies").map(|kind| format!("{kind}y"));
        let kind = kind.unwrap_or_else(|| self.section.trim_end_matches('s').replace('_', " "));
        let object = format!("{kind} {name}{}", vhost.unwrap_or_default());
        DefinitionsError { object, why: why.to_string() }
    }

    /// Whether there is such a field.
    pub fn has(&self, key: &str) -> bool {
        self.fields.get(key).is_some_and(|value| !value.is_null())
    }

    /// The names of all fields.
    pub fn keys(&self) -> impl Iterator<Item = &'j str> {
        self.fields.keys().map(String::as_str)
    }

    /// A field of any kind, as JSON.
    pub fn json(&self, key: &str) -> Result<Name, DefinitionsError> {
        let value = self.fields.get(key);
        let value = value.ok_or_else(|| self.refused(format!("'{key}' is missing")))?;
        Ok(value.to_string().into())
    }

    /// A field that has to be there.
    pub fn text(&self, key: &str) -> Result<&'j str, DefinitionsError> {
        self.text_if(key)?.ok_or_else(|| self.refused(format!("'{key}' is missing")))
    }

    /// A text, if there is one.
    pub fn text_if(&self, key: &str) -> Result<Option<&'j str>, DefinitionsError> {
        match self.fields.get(key) {
            None | Some(Json::Null) => Ok(None),
            Some(Json::String(text)) => Ok(Some(text)),
            Some(_) => Err(self.refused(format!("'{key}' is no text"))),
        }
    }

    /// A flag; without one, this.
    pub fn flag(&self, key: &str, default: bool) -> Result<bool, DefinitionsError> {
        match self.fields.get(key) {
            None | Some(Json::Null) => Ok(default),
            Some(Json::Bool(flag)) => Ok(*flag),
            Some(_) => Err(self.refused(format!("'{key}' is neither true nor false"))),
        }
    }

    /// A whole number, 0 without one.
    pub fn integer(&self, key: &str) -> Result<i64, DefinitionsError> {
        match self.fields.get(key) {
            None | Some(Json::Null) => Ok(0),
            Some(number) => {
                let refused = || self.refused(format!("'{key}' is no whole number"));
                number.as_i64().ok_or_else(refused)
            }
        }
    }

    /// Tags: a list, or one text with commas.
    pub fn tags(&self) -> Result<Vec<Name>, DefinitionsError> {
        let refused = || self.refused("'tags' is no list of texts");
        match self.fields.get("tags") {
            None | Some(Json::Null) => Ok(Vec::new()),
            Some(Json::String(text)) => {
                let tags = text.split(',').map(str::trim).filter(|tag| !tag.is_empty());
                Ok(tags.map(Name::from).collect())
            }
            Some(Json::Array(items)) => {
                items.iter().map(|tag| tag.as_str().map(Name::from).ok_or_else(refused)).collect()
            }
            Some(_) => Err(refused()),
        }
    }

    /// An object in the object, if it is there.
    pub fn object(&self, key: &str) -> Result<Option<Object<'j>>, DefinitionsError> {
        match self.fields.get(key) {
            None | Some(Json::Null) => Ok(None),
            Some(Json::Object(fields)) => {
                let Self { section, number, named, .. } = *self;
                Ok(Some(Object { section, number, fields, named }))
            }
            // Erlang's empty list stands for nothing.
            Some(Json::Array(items)) if items.is_empty() => Ok(None),
            Some(_) => Err(self.refused(format!("'{key}' is no object"))),
        }
    }

    /// The limits in the object under this key, by kind. Negative ones are none.
    pub fn limits<K: LimitKind>(&self, key: &str) -> Result<WantedLimits<K>, DefinitionsError> {
        let object = self.object(key)?;
        let fields = object.into_iter().flat_map(|object| object.fields);
        let limit = |(name, value): (&String, &Json)| {
            let unknown = || self.refused(format!("there is no limit '{name}'"));
            let kind = K::from_name(name).ok_or_else(unknown)?;
            let refused = || self.refused(format!("'{name}' is no whole number"));
            Ok((kind, value.as_i64().ok_or_else(refused)?))
        };
        fields.map(limit).collect()
    }

    /// The arguments as a table of AMQP.
    pub fn arguments(&self) -> Result<model::Arguments, DefinitionsError> {
        let Some(object) = self.object("arguments")? else {
            return Ok(model::Arguments::default());
        };
        let table = table(object.fields, 0);
        let table = table.ok_or_else(|| self.refused("'arguments' has a value of no AMQP type"))?;
        Ok(table.table().into())
    }

    /// The settings of a policy.
    pub fn definition(&self) -> Result<Definition, DefinitionsError> {
        let object = self.object("definition")?;
        let settings = object.into_iter().flat_map(|object| object.fields);
        Ok(settings.map(|(key, value)| (key.as_str().into(), setting(value))).collect())
    }
}

fn setting(value: &Json) -> PolicyValue {
    match (value, value.as_i64()) {
        (_, Some(number)) => PolicyValue::Integer(number),
        (Json::String(text), _) => PolicyValue::Text(text.as_str().into()),
        (other, _) => PolicyValue::Other(other.to_string().into()),
    }
}

fn table(fields: &Map<String, Json>, depth: usize) -> Option<TableWriter> {
    let mut writer = TableWriter::new();
    for (key, value) in fields {
        // A key is a short string.
        (key.len() <= 255).then_some(())?;
        writer = with_value(value, depth, |value| writer.with(key, value))?;
    }
    Some(writer)
}

fn array(items: &[Json], depth: usize) -> Option<ArrayWriter> {
    let mut writer = ArrayWriter::new();
    for item in items {
        writer = with_value(item, depth, |value| writer.with(value))?;
    }
    Some(writer)
}

/// Hands a value on as one of AMQP. `None`: there is none like it.
fn with_value<T>(value: &Json, depth: usize, then: impl FnOnce(Value<'_>) -> T) -> Option<T> {
    if depth > DEPTH_MAX {
        return None;
    }
    Some(match value {
        Json::Null => return None,
        Json::Bool(flag) => then(Value::Bool(*flag)),
        Json::Number(number) => match number.as_i64() {
            Some(integer) => then(Value::Long(integer)),
            None => then(Value::Double(number.as_f64()?)),
        },
        Json::String(text) => then(Value::LongString(text.as_bytes())),
        Json::Array(items) => then(Value::Array(array(items, depth + 1)?.array())),
        Json::Object(fields) => then(Value::Table(table(fields, depth + 1)?.table())),
    })
}
