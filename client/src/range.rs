//! Calls for a range of keys: region after region.

use crate::calls::mismatch;
use crate::cluster::Cluster;
use crate::retry::Failure;
use crate::{ColumnFamily, Error, Page, Scan, WireError};
use pinion_capnp::{RawCall, RawReply, RawRequest};
use pinion_types::Region;
use pinion_types::key::Zone;
use std::rc::Rc;

/// Bytes of a page's keys and values after which no further region is asked, where the caller sets no bound.
const PAGE_BYTES: usize = 1 << 20;

impl Cluster {
    /// Part of a range, across regions; each region's part is as it was at one moment. `bytes_max` 0 leaves the bound to the stores.
    pub async fn scan(&self, mut scan: Scan) -> Result<Page, Error> {
        check_range(&scan.start, &scan.end)?;
        let mut retry = self.retry();
        let mut page = Page::default();
        while scan.limit > 0 {
            let (region, got) = match self.scan_region(&scan, &retry).await {
                Ok(got) => got,
                Err(failure) => {
                    retry.after(failure).await?;
                    continue;
                }
            };
            for (key, value) in got.pairs.iter() {
                page.pairs.push(key, value);
            }
            scan.limit -= got.pairs.len().min(scan.limit);
            let bytes = page.pairs.size_bytes();
            let is_full = bytes >= if scan.bytes_max == 0 { PAGE_BYTES } else { scan.bytes_max };
            // Within a region only a limit ends a scan before the end of what it was asked for.
            let is_limited = got.resume.is_some();
            let Some(next) = got.resume.or_else(|| next_border(&scan, &region)) else {
                page.resume = None;
                return Ok(page);
            };
            if is_limited || is_full || scan.limit == 0 {
                page.resume = Some(next);
                return Ok(page);
            }
            match scan.reverse {
                true => scan.end = next,
                false => scan.start = next,
            }
        }
        Ok(page)
    }

    /// Scans the first region of the range, or the last when it goes backwards.
    async fn scan_region(&self, scan: &Scan, retry: &crate::retry::Retry) -> Result<(Region, Page), Failure> {
        let entry = match scan.reverse {
            true => self.locate_before(&stored_end(&scan.end)).await?,
            false => self.locate(&Zone::Raw.stored(&scan.start)).await?,
        };
        let part = Scan {
            start: clip_start(&scan.start, &entry.region),
            end: clip_end(&scan.end, &entry.region),
            ..scan.clone()
        };
        let mut request = RawRequest::new(RawCall::Scan(part));
        match self.try_raw(&entry, &mut request, retry).await? {
            RawReply::Page(page) => Ok((entry.region.clone(), page)),
            other => Err(Failure::Final(mismatch(&other))),
        }
    }

    /// The region of the keys just before a stored key. Stores find regions by the keys in them, so that all are asked for where it is not known.
    async fn locate_before(&self, stored: &[u8]) -> Result<Rc<crate::cache::Entry>, Failure> {
        let found = self.known.cache.borrow().find_before(stored);
        if let Some(entry) = found {
            return Ok(entry);
        }
        self.look_up_all().await?;
        let found = self.known.cache.borrow().find_before(stored);
        let missing = || WireError::RegionNotFound(crate::RegionId(0)).into();
        found.ok_or_else(|| Failure::Again(missing(), crate::retry::Pause::Growing))
    }

    /// Removes every key of `[start, end)`, region by region; an empty end is no end. After an error some of the regions may be done.
    pub async fn delete_range(&self, family: ColumnFamily, start: &[u8], end: &[u8]) -> Result<(), Error> {
        check_range(start, end)?;
        let mut range = Scan { family, start: start.to_vec(), end: end.to_vec(), ..Scan::default() };
        let mut retry = self.retry();
        loop {
            match self.delete_in_region(&range, &retry).await {
                Ok(None) => return Ok(()),
                Ok(Some(next)) => range.start = next,
                Err(failure) => retry.after(failure).await?,
            }
        }
    }

    /// Removes the range's keys of its first region. Where the next one begins.
    async fn delete_in_region(
        &self,
        range: &Scan,
        retry: &crate::retry::Retry,
    ) -> Result<Option<Vec<u8>>, Failure> {
        let entry = self.locate(&Zone::Raw.stored(&range.start)).await?;
        let call = RawCall::DeleteRange {
            family: range.family,
            start: range.start.clone(),
            end: clip_end(&range.end, &entry.region),
        };
        self.try_raw(&entry, &mut RawRequest::new(call), retry).await?;
        Ok(next_border(range, &entry.region))
    }
}

fn check_range(start: &[u8], end: &[u8]) -> Result<(), Error> {
    match !end.is_empty() && start > end {
        true => Err(WireError::invalid("the range's start is after its end").into()),
        false => Ok(()),
    }
}

/// The stored form of a range's end.
fn stored_end(end: &[u8]) -> Vec<u8> {
    if end.is_empty() { Zone::Raw.end().to_vec() } else { Zone::Raw.stored(end) }
}

/// The range's start, or the region's when that is later.
fn clip_start(start: &[u8], region: &Region) -> Vec<u8> {
    start.max(Zone::Raw.caller_key(&region.start).unwrap_or_default()).to_vec()
}

/// The range's end, or the region's when that is earlier; an empty end is none.
fn clip_end(end: &[u8], region: &Region) -> Vec<u8> {
    match Zone::Raw.caller_key(&region.end) {
        Some(border) if end.is_empty() || border < end => border.to_vec(),
        _ => end.to_vec(),
    }
}

/// The region's border where the range goes on beyond it, in the direction of the scan.
fn next_border(scan: &Scan, region: &Region) -> Option<Vec<u8>> {
    match scan.reverse {
        true => {
            let border = Zone::Raw.caller_key(&region.start).filter(|border| !border.is_empty());
            border.filter(|border| *border > scan.start.as_slice()).map(<[u8]>::to_vec)
        }
        false => {
            let border = Zone::Raw.caller_key(&region.end);
            let goes_on = |border: &&[u8]| scan.end.is_empty() || *border < scan.end.as_slice();
            border.filter(goes_on).map(<[u8]>::to_vec)
        }
    }
}
