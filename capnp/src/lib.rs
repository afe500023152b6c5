//! The wire: schemas, generated code, conversions, connection handling.
