//! The conditions of all bindings of a headers exchange, each with a number of its own.

use std::collections::BTreeMap;

use amqp::Table;
use amqp::table::Value;

use super::canonical;
use crate::hash::{SecretSeed, UntrustedMap};
use crate::topology::spec::Name;

/// The number of a condition. It is used again once no binding has the condition any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ConditionId(u32);

/// Conditions by header.
#[derive(Debug)]
pub(super) struct Conditions {
    headers: UntrustedMap<Name, Header>,
    header_numbers: Numbers,
    condition_numbers: Numbers,
}

/// A header that bindings have conditions for.
#[derive(Debug)]
struct Header {
    number: u32,
    /// Arguments of bindings with this name.
    uses: u32,
    /// The condition that the header is there.
    presence: Option<Counted>,
    /// The conditions that the header has a value.
    values: Option<Values>,
}

/// Conditions by the canonical form of their values. One needs no allocation beside the value's.
#[derive(Debug)]
enum Values {
    One(Box<[u8]>, Counted),
    Many(BTreeMap<Box<[u8]>, Counted>),
}

/// A condition.
#[derive(Debug, Clone, Copy)]
struct Counted {
    id: ConditionId,
    /// Arguments of bindings with this condition.
    uses: u32,
}

/// Numbers that are used again.
#[derive(Debug, Default)]
struct Numbers {
    free: Vec<u32>,
    /// How many were given out; those in `free` are among them.
    len: u32,
}

/// The conditions that a message meets. Kept from message to message, so that comparing allocates
/// nothing once it has grown.
#[derive(Debug, Default)]
pub(in crate::exchange) struct Met {
    conditions: Bits,
    /// The headers that came already: of equal ones only the first counts.
    headers: Bits,
    /// The canonical form of the value being compared.
    written: Vec<u8>,
    /// The state of the exchange that these numbers are of.
    pub changes: u64,
}

/// A set of numbers, cleared at the cost of what is in it.
#[derive(Debug, Default)]
struct Bits {
    blocks: Vec<u64>,
    /// The blocks that are not 0.
    touched: Vec<u32>,
}

impl ConditionId {
    #[inline]
    pub fn block(&self) -> u32 {
        self.0 / 64
    }

    #[inline]
    pub fn bit(self) -> u64 {
        1 << (self.0 % 64)
    }
}

impl Conditions {
    pub fn new(seed: SecretSeed) -> Self {
        Self {
            headers: UntrustedMap::with_hasher(seed),
            header_numbers: Numbers::default(),
            condition_numbers: Numbers::default(),
        }
    }

    /// Counts one more argument with this condition.
    pub fn acquire(&mut self, name: &str, value: Value<'_>) -> ConditionId {
        let numbers = &mut self.condition_numbers;
        if let Some(header) = self.headers.get_mut(name) {
            return header.acquire(value, numbers);
        }
        let number = self.header_numbers.next();
        let mut header = Header { number, uses: 0, presence: None, values: None };
        let id = header.acquire(value, numbers);
        self.headers.insert(name.into(), header);
        id
    }

    /// Counts one argument with this condition less; the last one removes the condition.
    pub fn release(&mut self, name: &str, value: Value<'_>) {
        let Some(header) = self.headers.get_mut(name) else {
            return;
        };
        if let Some(id) = header.release(value) {
            self.condition_numbers.free.push(id.0);
        }
        if header.uses == 0 {
            self.header_numbers.free.push(header.number);
            self.headers.remove(name);
        }
    }

    /// Finds the conditions that the headers of a message meet. Returns the number of headers.
    pub fn compare(&self, headers: Table<'_>, met: &mut Met) -> usize {
        met.conditions.clear(self.condition_numbers.len);
        met.headers.clear(self.header_numbers.len);
        if self.headers.is_empty() {
            return 0;
        }
        let mut steps = 0;
        for (name, value) in headers.iter() {
            steps += 1;
            if let Some(header) = self.headers.get(name)
                && met.headers.insert(header.number)
            {
                header.compare(value, met);
            }
        }
        steps
    }

    #[cfg(test)]
    pub fn is_empty(&self) -> bool {
        let numbers = [&self.header_numbers, &self.condition_numbers];
        self.headers.is_empty() && numbers.iter().all(|n| n.free.len() == n.len as usize)
    }
}

impl Header {
    fn acquire(&mut self, value: Value<'_>, numbers: &mut Numbers) -> ConditionId {
        self.uses += 1;
        let condition = if value == Value::Void {
            self.presence.get_or_insert_with(|| numbers.condition())
        } else {
            let written = canonical::written(value);
            let first = || Values::One(written.clone().into(), numbers.condition());
            self.values.get_or_insert_with(first).get_or_insert(&written, numbers)
        };
        condition.uses += 1;
        condition.id
    }

    /// Returns the condition if no argument has it any more.
    fn release(&mut self, value: Value<'_>) -> Option<ConditionId> {
        self.uses -= 1;
        let written = canonical::written(value);
        let condition = match value {
            Value::Void => self.presence.as_mut()?,
            _ => self.values.as_mut()?.get_mut(&written)?,
        };
        condition.uses -= 1;
        let condition = *condition;
        if condition.uses > 0 {
            return None;
        }
        match value {
            Value::Void => self.presence = None,
            _ if self.values.as_mut().is_some_and(|values| values.remove(&written)) => {}
            _ => self.values = None,
        }
        Some(condition.id)
    }

    #[inline]
    fn compare(&self, value: Value<'_>, met: &mut Met) {
        if let Some(presence) = &self.presence {
            met.conditions.insert(presence.id.0);
        }
        met.written.clear();
        if let Some(values) = &self.values
            && canonical::append(value, &mut met.written)
            && let Some(condition) = values.get(&met.written)
        {
            met.conditions.insert(condition.id.0);
        }
    }
}

impl Values {
    #[inline]
    fn get(&self, value: &[u8]) -> Option<&Counted> {
        match self {
            Values::One(one, condition) => (**one == *value).then_some(condition),
            Values::Many(conditions) => conditions.get(value),
        }
    }

    fn get_mut(&mut self, value: &[u8]) -> Option<&mut Counted> {
        match self {
            Values::One(one, condition) => (**one == *value).then_some(condition),
            Values::Many(conditions) => conditions.get_mut(value),
        }
    }

    fn get_or_insert(&mut self, value: &[u8], numbers: &mut Numbers) -> &mut Counted {
        if let Values::One(one, condition) = self
            && **one != *value
        {
            *self = Values::Many(BTreeMap::from([(std::mem::take(one), *condition)]));
        }
        match self {
            Values::One(_, condition) => condition,
            Values::Many(conditions) => {
                conditions.entry(value.into()).or_insert_with(|| numbers.condition())
            }
        }
    }

    /// Removes a condition that is there. Returns whether any is left.
    fn remove(&mut self, value: &[u8]) -> bool {
        match self {
            Values::One(..) => false,
            Values::Many(conditions) => {
                conditions.remove(value);
                !conditions.is_empty()
            }
        }
    }
}

impl Numbers {
    fn condition(&mut self) -> Counted {
        Counted { id: ConditionId(self.next()), uses: 0 }
    }

    fn next(&mut self) -> u32 {
        self.free.pop().unwrap_or_else(|| {
            // 2^32 arguments do not fit into memory.
            self.len += 1;
            self.len - 1
        })
    }
}

impl Met {
    /// The conditions that are met among those with numbers from 64 times `block` on.
    #[inline]
    pub fn block(&self, block: u32) -> u64 {
        self.conditions.blocks[block as usize]
    }
}

impl Bits {
    /// Removes all numbers. From now on numbers below `len` have their place.
    fn clear(&mut self, len: u32) {
        self.touched.drain(..).for_each(|block| self.blocks[block as usize] = 0);
        let blocks = len.div_ceil(64) as usize;
        if self.blocks.len() < blocks {
            self.blocks.resize(blocks, 0);
        }
    }

    /// Adds a number; false if it was there.
    #[inline]
    fn insert(&mut self, number: u32) -> bool {
        let (block, bit) = (number / 64, 1 << (number % 64));
        let bits = &mut self.blocks[block as usize];
        let new = *bits & bit == 0;
        if *bits == 0 {
            self.touched.push(block);
        }
        *bits |= bit;
        new
    }
}
