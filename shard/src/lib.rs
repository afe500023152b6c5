//! A core at work: regions, propose, persist, apply, answer.
