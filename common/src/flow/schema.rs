//! The JSON Schema of flow files, for editors: completion, hover texts and early errors.
//!
//! It is made from the declarations that the reader itself is made from. It is an aid, not the
//! judge: what fits it may still be refused by the checker.

use schemars::SchemaGenerator;
use serde_json::Value;

use super::raw::RawFlow;
use super::read::FromNode;

/// The JSON Schema (draft 2020-12) of a flow file.
#[must_use]
pub fn flow_schema() -> Value {
    let mut schema = RawFlow::schema(&mut SchemaGenerator::default());
    schema.insert(
        "$schema".to_owned(),
        "https://json-schema.org/draft/2020-12/schema".into(),
    );
    schema.insert("title".to_owned(), "OpenDataFlow flow file".into());
    schema.to_value()
}

/// The schema as it is published in `docs/flow.schema.json`, with a newline at its end.
#[must_use]
pub fn flow_schema_text() -> String {
    format!("{:#}\n", flow_schema())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::flow_schema_text;

    /// Set to rewrite the published file instead of comparing with it.
    const UPDATE: &str = "ODF_UPDATE_SCHEMA";

    #[test]
    fn the_published_schema_is_the_one_of_this_build() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/flow.schema.json");
        if std::env::var_os(UPDATE).is_some() {
            std::fs::write(&path, flow_schema_text()).unwrap();
        }
        let published = std::fs::read_to_string(&path).unwrap();
        assert_eq!(
            published,
            flow_schema_text(),
            "run this test with {UPDATE}=1"
        );
    }
}
