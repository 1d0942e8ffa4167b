//! Room for many tensors at once, in the largest pages the system gives: with small ones a processor waits for their table more often
//! than for memory (one thread reads half as much again a second from large ones).

use std::ops::Range;
use std::sync::Arc;

use memmap2::MmapMut;

use super::Bytes;

/// Where each tensor begins: a line of the cache.
const ALIGN: usize = 64;

impl Bytes {
    /// Room for so many bytes each, written by `write`, which is given which and its room, all zero.
    pub(crate) fn together(
        lens: &[usize],
        mut write: impl FnMut(usize, &mut [u8]),
    ) -> (Self, Vec<Range<usize>>) {
        let mut end = 0;
        let place = |len: &usize| {
            let start = end;
            end = (start + len).next_multiple_of(ALIGN);
            start..start + len
        };
        let ranges: Vec<Range<usize>> = lens.iter().map(place).collect();
        let mut fill = |bytes: &mut [u8]| {
            for (i, range) in ranges.iter().enumerate() {
                write(i, &mut bytes[range.clone()]);
            }
        };
        let mapped = MmapMut::map_anon(end.max(1)).and_then(|mut map| {
            // Where the system has no such pages, small ones do.
            #[cfg(target_os = "linux")]
            let _ = map.advise(memmap2::Advice::HugePage);
            fill(&mut map);
            map.make_read_only()
        });
        let bytes = match mapped {
            Ok(map) => Bytes::Mapped(Arc::new(map)),
            Err(_) => {
                let mut bytes = vec![0; end];
                fill(&mut bytes);
                Bytes::Owned(bytes.into())
            }
        };
        (bytes, ranges)
    }
}
