//! DATA packets as they leave: blocks of a file, each behind its header, side by side in one buffer for one send.

use std::array;
use std::io::IoSliceMut;

use driver::Time;
use driver::udp::{Doors, train_len_max};
use wire::tftp::{BLOCK_SIZE_UNFRAGMENTED, DATA_HEADER_LEN, data_header};

use super::files::{Changed, Files};
use crate::engine::Blocks;

/// The longest DATA packet, in bytes.
const PACKET_LEN_MAX: usize = DATA_HEADER_LEN + BLOCK_SIZE_UNFRAGMENTED as usize;
/// Packets in a buffer: what one send of Linux carries of short ones; of the longest 44.
const PACKETS_MAX: usize = 64;

/// The buffer.
#[derive(Debug)]
pub(super) struct Packets(Box<[u8]>);

impl Packets {
    pub(super) fn new() -> Self {
        Self(vec![0; PACKETS_MAX * PACKET_LEN_MAX].into_boxed_slice())
    }

    /// Reads blocks and sends them. False if the file is not what it was; what was read before has gone out.
    pub(super) fn send(&mut self, now: Time, files: &mut Files, doors: &Doors, blocks: &Blocks) -> bool {
        let end = blocks.first_block + u64::from(blocks.count);
        let mut block = blocks.first_block;
        while block < end {
            let Ok((count, train)) = self.read(now, files, blocks, (block, end)) else { return false };
            doors.send_train(blocks.role, blocks.to, train, packet_len(blocks));
            block += count;
        }
        true
    }

    /// The packets from `first` on that one send carries, none from `end` on; with how many they are.
    fn read(
        &mut self,
        now: Time,
        files: &mut Files,
        blocks: &Blocks,
        (first, end): (u64, u64),
    ) -> Result<(u64, &[u8]), Changed> {
        let packet_len = packet_len(blocks);
        let most = train_len_max(packet_len).min(PACKETS_MAX);
        let mut parts: [IoSliceMut<'_>; PACKETS_MAX] = array::from_fn(|_| IoSliceMut::new(&mut []));
        let mut count = 0;
        let packets = self.0.chunks_exact_mut(packet_len).take(most);
        for ((packet, block), part) in packets.zip(first..end).zip(&mut parts) {
            let (header, data) = packet.split_at_mut(DATA_HEADER_LEN);
            header.copy_from_slice(&data_header(blocks.rollover.number(block)));
            *part = IoSliceMut::new(data);
            count += 1;
        }
        let offset = first.saturating_sub(1).saturating_mul(u64::from(blocks.block_size));
        let bytes = files.read(now, blocks.file, offset, parts.get_mut(..count).ok_or(Changed)?)?;
        let train = self.0.get(..count * DATA_HEADER_LEN + bytes).ok_or(Changed)?;
        Ok((u64::try_from(count).map_err(|_| Changed)?, train))
    }
}

fn packet_len(blocks: &Blocks) -> usize {
    DATA_HEADER_LEN + usize::from(blocks.block_size)
}
