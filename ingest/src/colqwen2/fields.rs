//! Reads fields of a JSON file so that every complaint names the file, the field and what stood there.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::encoder::EncoderError;

/// An object of a JSON file, with the dotted path that leads to it.
#[derive(Clone, Debug)]
pub(crate) struct Fields<'a> {
    path: &'a Path,
    prefix: String,
    value: &'a Value,
}

impl<'a> Fields<'a> {
    pub(crate) fn new(path: &'a Path, value: &'a Value) -> Self {
        Self { path, prefix: String::new(), value }
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.path.to_owned()
    }

    /// The value of `name`; null counts as absent.
    pub(crate) fn get(&self, name: &str) -> Option<&'a Value> {
        self.value.get(name).filter(|value| !value.is_null())
    }

    /// The object called `name`, if there is one.
    pub(crate) fn object(&self, name: &str) -> Option<Self> {
        let value = self.get(name).filter(|value| value.is_object())?;
        Some(Self { path: self.path, prefix: format!("{}{name}.", self.prefix), value })
    }

    pub(crate) fn refuse(&self, name: &str, expected: impl Into<String>) -> EncoderError {
        let received = self.value.get(name).map_or_else(|| "nothing".to_owned(), Value::to_string);
        EncoderError::Config {
            path: self.path(),
            field: format!("{}{name}", self.prefix),
            expected: expected.into(),
            received,
        }
    }

    /// A positive whole number; absent is `default`, or an error without one.
    pub(crate) fn count(&self, name: &str, default: Option<usize>) -> Result<usize, EncoderError> {
        let found = match self.get(name) {
            None => default,
            Some(value) => value.as_u64().and_then(|value| usize::try_from(value).ok()),
        };
        found.filter(|value| *value > 0).ok_or_else(|| self.refuse(name, "a positive whole number"))
    }

    /// A finite positive number; absent is `default`.
    pub(crate) fn number(&self, name: &str, default: f64) -> Result<f64, EncoderError> {
        match self.get(name) {
            None => Ok(default),
            Some(value) => value
                .as_f64()
                .filter(|value| value.is_finite() && *value > 0.0)
                .ok_or_else(|| self.refuse(name, "a positive number")),
        }
    }

    /// A true or false; absent is `default`.
    pub(crate) fn flag(&self, name: &str, default: bool) -> Result<bool, EncoderError> {
        self.get(name).map_or(Some(default), Value::as_bool).ok_or_else(|| self.refuse(name, "true or false"))
    }

    /// A string; absent is none.
    pub(crate) fn text(&self, name: &str) -> Result<Option<&'a str>, EncoderError> {
        self.get(name).map(|value| value.as_str().ok_or_else(|| self.refuse(name, "a string"))).transpose()
    }

    /// A token id; absent is none.
    pub(crate) fn token_id(&self, name: &str) -> Result<Option<u32>, EncoderError> {
        self.get(name)
            .map(|value| {
                value.as_u64().and_then(|id| u32::try_from(id).ok()).ok_or_else(|| self.refuse(name, "a token id"))
            })
            .transpose()
    }

    /// Numbers, exactly `N` of them; absent is `default`.
    pub(crate) fn numbers<const N: usize>(&self, name: &str, default: [f64; N]) -> Result<[f64; N], EncoderError> {
        let Some(value) = self.get(name) else { return Ok(default) };
        value
            .as_array()
            .and_then(|values| values.iter().map(Value::as_f64).collect::<Option<Vec<_>>>())
            .and_then(|values| <[f64; N]>::try_from(values).ok())
            .ok_or_else(|| self.refuse(name, format!("{N} numbers")))
    }

    /// Refuses a value other than `only`; absent is accepted.
    pub(crate) fn only(&self, name: &str, only: &str) -> Result<(), EncoderError> {
        match self.get(name) {
            Some(value) if value.as_str() != Some(only) => Err(self.refuse(name, format!("{only:?}"))),
            _ => Ok(()),
        }
    }
}
