//! The environment of a script: the contract between a worker and what it runs, in variables.
//!
//! Values are data and are carried as they are, byte for byte; nothing is quoted or expanded.

use std::collections::BTreeMap;

use common::domain::{Bounds, rfc3339};
use common::flow::model::Location;
use serde_json::Value;

use super::Failure;
use super::connections::Resolved;
use super::context::{AttemptContext, InputView, OutputPlace, bounds_file, utf8};

/// The kernel takes no longer string (128 KiB with its end), so neither do we.
const MAX_VARIABLE: usize = 128 * 1024 - 1;
/// All strings together may not exceed a quarter of the usual 8 MiB stack.
const MAX_TOTAL: usize = 2 * 1024 * 1024 - 64 * 1024;
/// Inputs that have variables of their own; all of them stand in the file of ODF_INPUTS.
const NUMBERED: usize = 32;
/// Kept from the worker's own environment, besides `LC_*`.
const KEPT: [&str; 5] = ["PATH", "HOME", "LANG", "TZ", "TMPDIR"];

/// Variables in the order in which they were first set; a later value replaces an earlier one.
#[derive(Default)]
struct Variables {
    all: Vec<(String, String)>,
    places: BTreeMap<String, usize>,
}

impl Variables {
    fn set(&mut self, name: impl Into<String>, value: impl Into<String>) {
        let (name, value) = (name.into(), value.into());
        match self.places.get(&name) {
            Some(place) => self.all[*place].1 = value,
            None => {
                self.places.insert(name.clone(), self.all.len());
                self.all.push((name, value));
            }
        }
    }

    fn set_some(&mut self, name: impl Into<String>, value: Option<impl Into<String>>) {
        if let Some(value) = value {
            self.set(name, value);
        }
    }

    /// For names made from data: never takes the place of a name of ours.
    fn set_if_free(&mut self, name: String, value: Option<impl Into<String>>) {
        if !self.places.contains_key(&name) {
            self.set_some(name, value);
        }
    }
}

/// `a-b c` as `a_b_c`.
fn variable_name(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '_' })
        .collect()
}

fn upper_name(text: &str) -> String {
    variable_name(text).to_ascii_uppercase()
}

/// Builds all variables of a prepared attempt; `job_env` comes last.
///
/// # Errors
/// A permanent [`Failure`] for what no environment can carry.
pub(crate) fn variables(
    context: &AttemptContext,
    inputs: &[InputView],
    predicate: &str,
    job_env: Vec<(String, String)>,
) -> Result<Vec<(String, String)>, Failure> {
    let mut vars = Variables::default();
    keep_from_worker(&mut vars);
    set_identity(&mut vars, context)?;
    set_output(&mut vars, context)?;
    vars.set("ODF_INPUTS", utf8(&context.files.inputs)?);
    vars.set(
        "ODF_INPUT_COUNT",
        (inputs.len() + context.fan_in.len()).to_string(),
    );
    for (index, input) in inputs.iter().take(NUMBERED).enumerate() {
        set_input(&mut vars, &format!("ODF_INPUT_{}", index + 1), input);
        if index == 0 {
            set_input(&mut vars, "ODF_INPUT", input);
            vars.set_some("ODF_INPUT", input.path.clone());
        }
    }
    set_bounds(&mut vars, context, predicate)?;
    for (name, connection) in &context.connections {
        set_connection(
            &mut vars,
            &format!("ODF_CONN_{}", upper_name(name)),
            connection,
        )?;
    }
    set_legacy(&mut vars, context, inputs)?;
    for (name, value) in job_env {
        vars.set(name, value);
    }
    check(vars.all)
}

fn keep_from_worker(vars: &mut Variables) {
    for (name, value) in std::env::vars_os() {
        if let (Some(name), Some(value)) = (name.to_str(), value.to_str())
            && (KEPT.contains(&name) || name.starts_with("LC_"))
        {
            vars.set(name, value);
        }
    }
}

fn set_identity(vars: &mut Variables, context: &AttemptContext) -> Result<(), Failure> {
    let item = &context.item;
    vars.set("ODF_FLOW", &item.flow);
    vars.set("ODF_JOB", &context.spec.name);
    vars.set("ODF_DATASET", &context.spec.output);
    vars.set("ODF_CHUNK", &item.key);
    vars.set("ODF_CHUNK_NAME", format!("{}/{}", item.dataset, item.key));
    vars.set("ODF_ORDINAL", item.ordinal.to_string());
    vars.set("ODF_CHUNKS", item.plan_chunks.to_string());
    vars.set("ODF_ATTEMPT", item.attempt.to_string());
    vars.set("ODF_FENCE", item.fence.to_string());
    vars.set("ODF_GENERATION", item.generation.to_string());
    vars.set("ODF_CONTEXT", utf8(&context.files.context)?);
    vars.set("ODF_RESULT", utf8(&context.files.result)?);
    vars.set("ODF_PROGRESS", utf8(&context.files.progress)?);
    vars.set("ODF_WORKDIR", utf8(&context.files.work)?);
    Ok(())
}

fn set_output(vars: &mut Variables, context: &AttemptContext) -> Result<(), Failure> {
    match &context.output {
        OutputPlace::File {
            root,
            staging,
            relative,
        } => {
            vars.set("ODF_STAGING", utf8(staging)?);
            vars.set("ODF_OUTPUT", utf8(&root.join(relative))?);
        }
        OutputPlace::Table { table } => {
            let connection = &context.spec.output_at.connection;
            if let Some(Resolved::Postgres { url, .. }) = context.connections.get(connection) {
                vars.set("ODF_OUTPUT_URL", url);
            }
            vars.set("ODF_OUTPUT_TABLE", table);
        }
        OutputPlace::Elsewhere => {}
    }
    Ok(())
}

fn set_input(vars: &mut Variables, prefix: &str, input: &InputView) {
    vars.set(format!("{prefix}_DATASET"), &input.dataset);
    vars.set(format!("{prefix}_CHUNK"), &input.chunk);
    vars.set(format!("{prefix}_GENERATION"), input.generation.to_string());
    vars.set_some(format!("{prefix}_MAPPING"), input.mapping.clone());
    vars.set_some(format!("{prefix}_PATH"), input.path.clone());
    vars.set_some(format!("{prefix}_URL"), input.url.clone());
    vars.set_some(format!("{prefix}_TABLE"), input.table.clone());
    let number = |value: Option<i64>| value.map(|value| value.to_string());
    vars.set_some(format!("{prefix}_ROWS"), number(input.rows));
    vars.set_some(format!("{prefix}_BYTES"), number(input.bytes));
    vars.set_some(format!("{prefix}_CHECKSUM"), input.checksum.clone());
}

fn set_bounds(
    vars: &mut Variables,
    context: &AttemptContext,
    predicate: &str,
) -> Result<(), Failure> {
    let bounds = &context.item.bounds;
    let as_json = serde_json::to_value(bounds)
        .map_err(|error| Failure::permanent(format!("write the bounds as JSON: {error}")))?;
    let kind = as_json.get("kind").and_then(Value::as_str).unwrap_or("");
    vars.set("ODF_BOUNDS_KIND", kind);
    vars.set("ODF_BOUNDS", as_json.to_string());
    vars.set("ODF_PREDICATE", predicate);
    match bounds {
        Bounds::Product { parts } => {
            for part in parts {
                set_part(vars, context, part)?;
            }
            Ok(())
        }
        one => set_part(vars, context, one),
    }
}

/// The variables of bounds in one dimension.
fn set_part(
    vars: &mut Variables,
    context: &AttemptContext,
    bounds: &Bounds,
) -> Result<(), Failure> {
    match bounds {
        Bounds::KeyRange {
            columns,
            lower,
            upper,
        } => {
            set_key_columns(vars, columns);
            vars.set_some("ODF_LOWER", lower.as_deref().map(key_text));
            vars.set_some("ODF_UPPER", upper.as_deref().map(key_text));
        }
        Bounds::NullKeys { columns } => set_key_columns(vars, columns),
        Bounds::Value { value } => vars.set("ODF_VALUE", value),
        Bounds::File { path, .. } => {
            let path = bounds_file(&context.item, &context.spec, &context.connections, path)?;
            vars.set("ODF_FILE", path);
        }
        Bounds::Row { values } => {
            let row: serde_json::Map<String, Value> = values
                .iter()
                .map(|(name, value)| (name.clone(), Value::from(value.clone())))
                .collect();
            vars.set("ODF_ROW", Value::from(row).to_string());
            for (name, value) in values {
                vars.set_if_free(format!("ODF_COL_{}", upper_name(name)), value.clone());
            }
        }
        Bounds::Window {
            start,
            end,
            zone,
            label,
            ..
        } => {
            vars.set("ODF_WINDOW_START", rfc3339(*start));
            vars.set("ODF_WINDOW_END", rfc3339(*end));
            vars.set("ODF_WINDOW_ZONE", zone);
            vars.set("ODF_WINDOW_LABEL", label);
        }
        Bounds::OutsideWindows { .. } | Bounds::Product { .. } | Bounds::Single => {}
    }
    Ok(())
}

fn set_key_columns(vars: &mut Variables, columns: &[common::domain::KeyColumn]) {
    let names: Value = columns.iter().map(|column| column.name.clone()).collect();
    vars.set("ODF_KEY_COLUMNS", names.to_string());
}

/// The text value of a one-column key, else a JSON array.
fn key_text(key: &[String]) -> String {
    match key {
        [one] => one.clone(),
        many => Value::from(many.to_vec()).to_string(),
    }
}

fn set_connection(
    vars: &mut Variables,
    prefix: &str,
    connection: &Resolved,
) -> Result<(), Failure> {
    match connection {
        Resolved::Postgres { url, parts } => {
            vars.set(format!("{prefix}_URL"), url);
            vars.set_some(format!("{prefix}_HOST"), parts.host.clone());
            vars.set_some(format!("{prefix}_PORT"), parts.port.clone());
            vars.set_some(format!("{prefix}_USER"), parts.user.clone());
            vars.set_some(format!("{prefix}_PASSWORD"), parts.password.clone());
            vars.set_some(format!("{prefix}_DATABASE"), parts.database.clone());
        }
        Resolved::Files { root, .. } => vars.set(format!("{prefix}_ROOT"), utf8(root)?),
        Resolved::Other { settings } => {
            for (name, value) in settings {
                vars.set_if_free(format!("{prefix}_{}", upper_name(name)), Some(value));
            }
        }
    }
    Ok(())
}

/// The variables of the first OpenDataFlow, so that its scripts run unchanged. The output's
/// file name is the staged one: the script writes there and we publish.
fn set_legacy(
    vars: &mut Variables,
    context: &AttemptContext,
    inputs: &[InputView],
) -> Result<(), Failure> {
    vars.set("dataid", &context.item.key);
    for (input, chunk) in inputs.iter().zip(&context.item.inputs) {
        set_legacy_place(vars, context, &input.dataset, &chunk.at, input.path.clone());
    }
    let staged = match &context.output {
        OutputPlace::File { staging, .. } => Some(utf8(staging)?),
        OutputPlace::Table { .. } | OutputPlace::Elsewhere => None,
    };
    let spec = &context.spec;
    set_legacy_place(vars, context, &spec.output, &spec.output_at, staged);
    Ok(())
}

fn set_legacy_place(
    vars: &mut Variables,
    context: &AttemptContext,
    dataset: &str,
    at: &Location,
    file: Option<String>,
) {
    let prefix = variable_name(dataset);
    let mut set = |what: &str, value: Option<String>| {
        vars.set_if_free(format!("{prefix}_{what}"), value);
    };
    if let Some(Resolved::Postgres { parts, .. }) = context.connections.get(&at.connection) {
        set("hostname", parts.host.clone());
        set("port", parts.port.clone());
        set("database", parts.database.clone());
        set("username", parts.user.clone());
        set("password", parts.password.clone());
    }
    if let Some(table) = &at.table {
        let (schema, table) = split_table(table);
        set("schemaname", schema);
        set("tablename", Some(table));
    }
    set("filename", file);
}

/// `"My Schema".t` as its two names, unquoted.
fn split_table(text: &str) -> (Option<String>, String) {
    let mut parts = vec![String::new()];
    let mut quoted = false;
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        let last = parts.len() - 1;
        match c {
            '"' if quoted && chars.next_if_eq(&'"').is_some() => parts[last].push('"'),
            '"' => quoted = !quoted,
            '.' if !quoted => parts.push(String::new()),
            _ => parts[last].push(c),
        }
    }
    let table = parts.pop().unwrap_or_default();
    (parts.pop(), table)
}

/// Refuses what the kernel would refuse, with the name of the variable.
fn check(all: Vec<(String, String)>) -> Result<Vec<(String, String)>, Failure> {
    let hint = "(hint: the context file of ODF_CONTEXT has no such limit; keep long values out of keys, rows and env)";
    let mut total = 0;
    for (name, value) in &all {
        if value.contains('\0') {
            return Err(Failure::permanent(format!(
                "the value for {name} holds a NUL character, which no environment can carry"
            )));
        }
        let length = name.len() + value.len() + 1;
        if length > MAX_VARIABLE {
            return Err(Failure::permanent(format!(
                "the variable {name} would be {length} bytes long; the kernel takes at most {MAX_VARIABLE} {hint}"
            )));
        }
        total += length + 1 + size_of::<usize>();
    }
    if total > MAX_TOTAL {
        return Err(Failure::permanent(format!(
            "the environment would be {total} bytes long; the kernel takes at most {MAX_TOTAL} {hint}"
        )));
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::{MAX_VARIABLE, check, key_text, split_table, upper_name};

    #[test]
    fn names_are_made_of_letters_digits_and_underscores() {
        assert_eq!(upper_name("my-lake 2.\u{e9}"), "MY_LAKE_2__");
    }

    #[test]
    fn tables_are_split_as_sql_reads_them() {
        let split = |text| {
            let (schema, table) = split_table(text);
            (schema.unwrap_or_default(), table)
        };
        assert_eq!(split("public.orders"), ("public".into(), "orders".into()));
        assert_eq!(split("orders"), (String::new(), "orders".into()));
        assert_eq!(
            split(r#""My.Schema"."a ""b""""#),
            ("My.Schema".into(), r#"a "b""#.into())
        );
    }

    #[test]
    fn composite_keys_are_json_and_simple_ones_text() {
        assert_eq!(key_text(&["a b".into()]), "a b");
        assert_eq!(key_text(&["a\"".into(), "1".into()]), r#"["a\"","1"]"#);
    }

    #[test]
    fn what_no_environment_can_carry_is_refused_by_name() {
        let refused = |value: String| check(vec![("X".into(), value)]).expect_err("refused").error;
        assert!(refused("a\0b".into()).contains("X holds a NUL"));
        assert!(refused("a".repeat(MAX_VARIABLE)).contains("variable X"));
        let many = (0..40).map(|i| (format!("V{i}"), "a".repeat(100_000)));
        assert!(check(many.collect()).is_err());
    }
}
