//! The capabilities that a connection's peer holds.
//!
//! Four are the same for every connection and live as long as it does; the link is there once its peer was found to be a store of this
//! cluster. A bulk load lives while the peer holds a reference to it, or
//! has not finished the call that made it.

use super::work::Loader;
use crate::generated::{admin_capnp, link_capnp, pinion_capnp, raw_capnp};
use crate::rpc;
use capnp::message::{Builder, HeapAllocator};
use capnp::private::layout::CapTable;
use capnp::traits::ImbueMut;
use capnp_rpc::rpc_capnp::promised_answer;
use pinion_types::map::HashMap;
use std::rc::Rc;

const PINION: u32 = 0;
const RAW: u32 = 1;
const ADMIN: u32 = 2;
const LINK: u32 = 3;
const FIRST_LOADER: u32 = 16;
/// Words of an answer with a capability.
const GRANT_WORDS: usize = 32;
/// Capabilities handed out and not finished, and bulk loads open, at most.
pub(super) const CAPABILITIES_MAX: usize = 256;

/// What a call is addressed to.
#[derive(Clone)]
pub(super) enum Target {
    Pinion,
    Raw,
    Admin,
    Link,
    Loader(Rc<Loader>),
}

/// What a call answers when it answers with a capability.
#[derive(Clone, Copy)]
pub(super) enum Grant {
    /// The bootstrap object itself.
    Pinion,
    Raw,
    Admin,
    Link,
    /// The bulk load of this export.
    Loader(u32),
}

struct OpenLoader {
    loader: Rc<Loader>,
    /// References that the peer holds.
    references: u32,
    /// Whether the peer may still address the loader by the call that made it.
    by_answer: bool,
}

/// The capabilities that the peer holds, and the calls by which it may address them.
pub(super) struct Exports {
    answers: HashMap<u32, Grant>,
    loaders: HashMap<u32, OpenLoader>,
    next: u32,
    /// Whether the peer may call the link.
    has_link: bool,
}

impl Exports {
    pub(super) fn new() -> Self {
        Self { answers: HashMap::default(), loaders: HashMap::default(), next: FIRST_LOADER, has_link: false }
    }

    /// Whether no further capability may be handed out until the peer finishes with one.
    pub(super) fn is_full(&self) -> bool {
        self.answers.len() >= CAPABILITIES_MAX || self.loaders.len() >= CAPABILITIES_MAX
    }

    /// Remembers that the call `question` answers with this capability.
    pub(super) fn grant(&mut self, question: u32, grant: Grant) {
        self.answers.insert(question, grant);
    }

    /// Lets the peer call the link from now on.
    pub(super) fn open_link(&mut self) {
        self.has_link = true;
    }

    /// Opens a bulk load for the call `question`.
    pub(super) fn open(&mut self, question: u32, loader: Loader) -> Grant {
        let export = self.next;
        self.next = self.next.wrapping_add(1).max(FIRST_LOADER);
        let open = OpenLoader { loader: Rc::new(loader), references: 1, by_answer: true };
        self.loaders.insert(export, open);
        self.grant(question, Grant::Loader(export));
        Grant::Loader(export)
    }

    /// Whether the call `question` was answered with a capability and is not finished.
    pub(super) fn has_answer(&self, question: u32) -> bool {
        self.answers.contains_key(&question)
    }

    /// What an export is.
    pub(super) fn imported(&self, export: u32) -> Option<Target> {
        match export {
            PINION => Some(Target::Pinion),
            RAW => Some(Target::Raw),
            ADMIN => Some(Target::Admin),
            LINK => self.has_link.then_some(Target::Link),
            _ => self.loaders.get(&export).map(|open| Target::Loader(open.loader.clone())),
        }
    }

    /// What a path into a call's answer leads to.
    pub(super) fn promised(&self, answer: promised_answer::Reader<'_>) -> capnp::Result<Option<Target>> {
        let Some(&grant) = self.answers.get(&answer.get_question_id()) else { return Ok(None) };
        let mut fields = 0;
        for step in answer.get_transform()? {
            match step.which()? {
                promised_answer::op::Noop(()) => {}
                promised_answer::op::GetPointerField(0) => fields += 1,
                promised_answer::op::GetPointerField(_) => return Ok(None),
            }
        }
        Ok(match (grant, fields) {
            (Grant::Pinion, 0) => Some(Target::Pinion),
            (Grant::Raw, 1) => Some(Target::Raw),
            (Grant::Admin, 1) => Some(Target::Admin),
            (Grant::Link, 1) => Some(Target::Link),
            (Grant::Loader(export), 1) => self.imported(export),
            _ => None,
        })
    }

    /// The peer finished a call.
    pub(super) fn finish(&mut self, question: u32, release: bool) {
        if let Some(Grant::Loader(export)) = self.answers.remove(&question)
            && let Some(open) = self.loaders.get_mut(&export)
        {
            open.by_answer = false;
            open.references = open.references.saturating_sub(u32::from(release));
            self.close_unused(export);
        }
    }

    /// The peer gave up `count` references.
    pub(super) fn release(&mut self, export: u32, count: u32) {
        if let Some(open) = self.loaders.get_mut(&export) {
            open.references = open.references.saturating_sub(count);
            self.close_unused(export);
        }
    }

    fn close_unused(&mut self, export: u32) {
        if self.loaders.get(&export).is_some_and(|open| open.references == 0 && !open.by_answer) {
            self.loaders.remove(&export);
        }
    }
}

/// Answers the call `question` with a capability.
pub(super) fn grant_message(question: u32, grant: Grant) -> Builder<HeapAllocator> {
    let mut table = CapTable::new();
    let mut builder = rpc::message(GRANT_WORDS);
    let mut payload = rpc::begin_return(&mut builder, question).init_results();
    payload.reborrow().init_cap_table(1).get(0).set_sender_hosted(match grant {
        Grant::Pinion => PINION,
        Grant::Raw => RAW,
        Grant::Admin => ADMIN,
        Grant::Link => LINK,
        Grant::Loader(export) => export,
    });
    let mut content = payload.get_content();
    content.imbue_mut(&mut table);
    match grant {
        Grant::Pinion => {
            let client: pinion_capnp::pinion::Client = capnp_rpc::new_client(Stand);
            content.set_as_capability(client.client.hook);
        }
        Grant::Raw => content
            .init_as::<pinion_capnp::pinion::raw_results::Builder<'_>>()
            .set_raw(capnp_rpc::new_client(Stand)),
        Grant::Admin => content
            .init_as::<pinion_capnp::pinion::admin_results::Builder<'_>>()
            .set_admin(capnp_rpc::new_client(Stand)),
        Grant::Link => {
            content.init_as::<link_capnp::link_answer::Builder<'_>>().set_link(capnp_rpc::new_client(Stand));
        }
        Grant::Loader(_) => content
            .init_as::<raw_capnp::raw::bulk_load_results::Builder<'_>>()
            .set_loader(capnp_rpc::new_client(Stand)),
    }
    assert_eq!(table.len(), 1, "one capability stands in the message, at index 0");
    builder
}

/// Stands in a message for a capability, so that the library writes its pointer. It is never called.
struct Stand;

impl pinion_capnp::pinion::Server for Stand {}
impl raw_capnp::raw::Server for Stand {}
impl raw_capnp::bulk_loader::Server for Stand {}
impl admin_capnp::admin::Server for Stand {}
impl link_capnp::link::Server for Stand {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_link_is_not_there_until_it_is_opened() {
        let mut exports = Exports::new();
        assert!(exports.imported(LINK).is_none());
        exports.open_link();
        assert!(matches!(exports.imported(LINK), Some(Target::Link)));
    }
}
