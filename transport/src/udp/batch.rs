//! Many packets with one system call: segmentation offload when sending, coalescing when receiving.
//!
//! The kernel interfaces are `sendmsg` with UDP_SEGMENT (one buffer, cut by kernel or NIC), `sendmmsg` where that is
//! missing, and `recvmmsg` with UDP_GRO (neighbouring packets in one buffer, with their size in a control message).
//! How full a socket is and what it dropped is asked for now and then (SO_MEMINFO): SO_RXQ_OVFL would tell it with
//! each packet, at a cost for each. No crate wraps them together.
#![expect(
    unsafe_code,
    reason = "sendmsg, sendmmsg and recvmmsg take structures of raw pointers"
)]

use std::io::{self, IoSlice};
use std::mem::{size_of, zeroed};
use std::os::fd::{AsFd, AsRawFd, RawFd};

/// Datagrams taken with one call: enough that the call's own cost is little even where nothing is coalesced.
const RECEIVE_DATAGRAMS: usize = 32;
/// Bytes of one of them: what coalescing makes at most.
const DATAGRAM_BYTES: usize = 65_536;
/// Packets sent with one call where there is no segmentation offload.
const SEND_DATAGRAMS: usize = 64;

/// Room for two control messages, aligned as the kernel wants it.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
struct Control([u8; 64]);

/// Sends batches of packets of equal size on a connected socket.
#[derive(Debug)]
pub struct Batcher {
    offload: bool,
}

/// Takes many packets at once.
pub struct Receiving {
    buffer: Vec<u8>,
    controls: Vec<Control>,
    /// Length of each datagram, and of the packets in it.
    datagrams: Vec<(usize, usize)>,
    last_drops: u32,
    drops: u64,
    truncated: u64,
}

impl Batcher {
    /// Uses segmentation offload, as long as the kernel and the interface take it, if `offload`.
    pub fn new(offload: bool) -> Self {
        Self { offload }
    }

    /// Whether offload is in use.
    pub fn offload(&self) -> bool {
        self.offload
    }

    /// Sends packets of `segment` bytes each, the last of which may be shorter, one behind the other in `pieces`. A packet
    /// begins and ends with a piece. Blocks while the socket's buffer is full. The first refusal of offload switches it off
    /// for good and sends without.
    pub fn send(&mut self, socket: impl AsFd, pieces: &[IoSlice<'_>], segment: usize) -> io::Result<()> {
        let fd = socket.as_fd().as_raw_fd();
        let bytes: usize = pieces.iter().map(|piece| piece.len()).sum();
        if self.offload && bytes > segment {
            match send_segmented(fd, pieces, segment) {
                Err(error) if refuses_offload(&error) => self.offload = false,
                result => return result,
            }
        }
        let packets = packets(pieces, segment);
        packets
            .chunks(SEND_DATAGRAMS)
            .try_for_each(|batch| send_each(fd, batch))
    }
}

/// What the kernel answers when checksum offload, or UDP_SEGMENT itself, is missing.
fn refuses_offload(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EIO | libc::EINVAL | libc::EOPNOTSUPP | libc::EMSGSIZE)
    )
}

/// The pieces of each packet.
fn packets<'a, 'b>(pieces: &'a [IoSlice<'b>], segment: usize) -> Vec<&'a [IoSlice<'b>]> {
    let (mut packets, mut rest) = (Vec::new(), pieces);
    while !rest.is_empty() {
        let (mut bytes, mut count) = (0, 0);
        while count < rest.len() && (count == 0 || bytes + rest[count].len() <= segment) {
            bytes += rest[count].len();
            count += 1;
        }
        let (packet, others) = rest.split_at(count);
        packets.push(packet);
        rest = others;
    }
    packets
}

fn send_segmented(fd: RawFd, pieces: &[IoSlice<'_>], segment: usize) -> io::Result<()> {
    let size = u16::try_from(segment).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    let mut control = Control([0; 64]);
    // SAFETY: an all-zero msghdr is valid: null pointers with zero lengths.
    let mut message: libc::msghdr = unsafe { zeroed() };
    // IoSlice has the layout of iovec.
    message.msg_iov = pieces.as_ptr().cast_mut().cast();
    message.msg_iovlen = pieces.len() as _;
    message.msg_control = control.0.as_mut_ptr().cast();
    // SAFETY: CMSG_SPACE only computes; two bytes of data with their header take 24, fewer than the 64 there are.
    message.msg_controllen = unsafe { libc::CMSG_SPACE(2) } as _;
    // SAFETY: msg_control points to 64 aligned, zeroed bytes and msg_controllen is at most that, so the first header
    // lies within, and so do the two bytes of data behind it.
    unsafe {
        let header = libc::CMSG_FIRSTHDR(&raw const message);
        (*header).cmsg_level = libc::SOL_UDP;
        (*header).cmsg_type = libc::UDP_SEGMENT;
        (*header).cmsg_len = libc::CMSG_LEN(2) as _;
        libc::CMSG_DATA(header).cast::<u16>().write_unaligned(size);
    }
    retry(|| {
        // SAFETY: the message points to `pieces`, as many as there are, and `control`; these and what the pieces point to
        // outlive the call, and the kernel only reads them.
        unsafe { libc::sendmsg(fd, &raw const message, 0) }
    })
    .map(drop)
}

fn send_each(fd: RawFd, packets: &[&[IoSlice<'_>]]) -> io::Result<()> {
    let message = |pieces: &&[IoSlice<'_>]| {
        // SAFETY: an all-zero mmsghdr is valid: null pointers with zero lengths.
        let mut message: libc::mmsghdr = unsafe { zeroed() };
        // IoSlice has the layout of iovec.
        message.msg_hdr.msg_iov = pieces.as_ptr().cast_mut().cast();
        message.msg_hdr.msg_iovlen = pieces.len() as _;
        message
    };
    let mut messages: Vec<libc::mmsghdr> = packets.iter().map(message).collect();
    let mut sent = 0;
    while sent < messages.len() {
        let rest = &mut messages[sent..];
        let count = libc::c_uint::try_from(rest.len()).unwrap_or(1);
        sent += retry(|| {
            // SAFETY: each message points to the pieces of one packet, as many as there are; these and what they point to
            // outlive the call. The kernel writes only msg_len of the `count` messages that there are.
            let sent = unsafe { libc::sendmmsg(fd, rest.as_mut_ptr(), count, 0) };
            isize::try_from(sent).unwrap_or(-1)
        })?
        .max(1);
    }
    Ok(())
}

/// Has the kernel coalesce packets for this socket, where it can.
pub(super) fn prepare_receiving(socket: impl AsFd) {
    let fd = socket.as_fd().as_raw_fd();
    // Kernels before 5.0 do not coalesce; then every packet comes alone, which is slower and nothing else.
    if let Err(error) = set_flag(fd, libc::SOL_UDP, libc::UDP_GRO) {
        tracing::debug!(%error, "the kernel does not coalesce received packets");
    }
}

fn set_flag(fd: RawFd, level: libc::c_int, name: libc::c_int) -> io::Result<()> {
    let on: libc::c_int = 1;
    let size = libc::socklen_t::try_from(size_of::<libc::c_int>()).unwrap_or(4);
    // SAFETY: the option's value is one c_int, which outlives the call.
    let result = unsafe { libc::setsockopt(fd, level, name, (&raw const on).cast(), size) };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

impl std::fmt::Debug for Receiving {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Receiving")
            .field("drops", &self.drops)
            .finish_non_exhaustive()
    }
}

impl Default for Receiving {
    fn default() -> Self {
        Self::new()
    }
}

impl Receiving {
    /// Buffers for one call: 2 MiB, of which only what packets fill is ever touched.
    pub fn new() -> Self {
        Self {
            buffer: vec![0; RECEIVE_DATAGRAMS * DATAGRAM_BYTES],
            controls: vec![Control([0; 64]); RECEIVE_DATAGRAMS],
            datagrams: Vec::with_capacity(RECEIVE_DATAGRAMS),
            last_drops: 0,
            drops: 0,
            truncated: 0,
        }
    }

    /// Takes what waits on the socket, without blocking. Tells whether there may be more: all there was room for came.
    /// The packets are those of [`packets`](Self::packets) until the next call.
    pub fn receive(&mut self, socket: impl AsFd) -> io::Result<bool> {
        self.datagrams.clear();
        let fd = socket.as_fd().as_raw_fd();
        // SAFETY: all-zero iovecs and mmsghdrs are valid: null pointers with zero lengths.
        let (mut parts, mut messages): (
            [libc::iovec; RECEIVE_DATAGRAMS],
            [libc::mmsghdr; RECEIVE_DATAGRAMS],
        ) = unsafe { (zeroed(), zeroed()) };
        let rooms = self
            .buffer
            .chunks_exact_mut(DATAGRAM_BYTES)
            .zip(&mut self.controls);
        for ((part, message), (room, control)) in parts.iter_mut().zip(&mut messages).zip(rooms) {
            part.iov_base = room.as_mut_ptr().cast();
            part.iov_len = room.len();
            message.msg_hdr.msg_iov = part;
            message.msg_hdr.msg_iovlen = 1;
            message.msg_hdr.msg_control = control.0.as_mut_ptr().cast();
            message.msg_hdr.msg_controllen = size_of::<Control>() as _;
        }
        let count = libc::c_uint::try_from(messages.len()).unwrap_or(1);
        let received = retry(|| {
            // SAFETY: the `count` messages point to `parts`, these into `buffer`, and to `controls`, each with its
            // true length; all outlive the call and nothing else touches them meanwhile.
            let received = unsafe {
                libc::recvmmsg(
                    fd,
                    messages.as_mut_ptr(),
                    count,
                    libc::MSG_DONTWAIT,
                    std::ptr::null_mut(),
                )
            };
            isize::try_from(received).unwrap_or(-1)
        });
        let received = match received {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            result => result?,
        };
        for message in messages.iter().take(received) {
            let len = usize::try_from(message.msg_len).unwrap_or(0).min(DATAGRAM_BYTES);
            let whole = message.msg_hdr.msg_flags & libc::MSG_TRUNC == 0;
            self.truncated += u64::from(!whole);
            let len = if whole { len } else { 0 };
            let segment = coalesced(&message.msg_hdr).filter(|&size| size > 0);
            self.datagrams.push((len, segment.unwrap_or(len)));
        }
        Ok(received == RECEIVE_DATAGRAMS)
    }

    /// Whether the last call brought nothing.
    pub fn is_empty(&self) -> bool {
        self.datagrams.is_empty()
    }

    /// Asks the kernel how full the socket is, in 255ths as it counts, and what it dropped (see [`drops`](Self::drops)).
    pub fn look(&mut self, socket: impl AsFd) -> io::Result<u8> {
        let (fill, drops) = memory_info(socket.as_fd().as_raw_fd())?;
        self.drops += u64::from(drops.wrapping_sub(self.last_drops));
        self.last_drops = drops;
        Ok(fill)
    }

    /// The packets of the last call, taken apart again where the kernel had coalesced them.
    pub fn packets(&self) -> impl Iterator<Item = &[u8]> {
        let rooms = self.buffer.chunks_exact(DATAGRAM_BYTES);
        rooms
            .zip(&self.datagrams)
            .flat_map(|(room, &(len, segment))| room[..len].chunks(segment.max(1)))
    }

    /// Packets that the socket dropped since it was opened, as of the last [`look`](Self::look).
    pub fn drops(&self) -> u64 {
        self.drops
    }

    /// Datagrams that were longer than any can be.
    pub fn truncated(&self) -> u64 {
        self.truncated
    }
}

/// Size of coalesced packets, from a message's control data.
fn coalesced(message: &libc::msghdr) -> Option<usize> {
    // SAFETY: the kernel filled msg_control up to msg_controllen with well-formed headers, and the buffer lives as
    // long as the message; the macros stay within that length.
    let mut header = unsafe { libc::CMSG_FIRSTHDR(message) };
    while !header.is_null() {
        // SAFETY: a header that is not null lies within the control buffer, and the kernel wrote four bytes of data
        // behind one of the kind that is read here.
        unsafe {
            if ((*header).cmsg_level, (*header).cmsg_type) == (libc::SOL_UDP, libc::UDP_GRO) {
                let size = libc::CMSG_DATA(header).cast::<libc::c_int>().read_unaligned();
                return usize::try_from(size).ok();
            }
            header = libc::CMSG_NXTHDR(message, header);
        }
    }
    None
}

/// How full a socket's receive buffer is, in 255ths, and how many packets it dropped so far, modulo 2^32.
fn memory_info(fd: RawFd) -> io::Result<(u8, u32)> {
    let mut info = [0u32; 9]; // SK_MEMINFO_VARS
    let mut size = libc::socklen_t::try_from(size_of_val(&info)).unwrap_or(0);
    // SAFETY: the kernel writes at most `size` bytes to `info`, which has as many.
    let result = unsafe {
        libc::getsockopt(
            fd,
            libc::SOL_SOCKET,
            libc::SO_MEMINFO,
            info.as_mut_ptr().cast(),
            &raw mut size,
        )
    };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    // SK_MEMINFO_RMEM_ALLOC, _RCVBUF and _DROPS
    let (used, room, drops) = (u64::from(info[0]), u64::from(info[1]).max(1), info[8]);
    Ok((u8::try_from(used * 255 / room).unwrap_or(u8::MAX), drops))
}

fn retry(mut call: impl FnMut() -> isize) -> io::Result<usize> {
    loop {
        match usize::try_from(call()) {
            Ok(count) => return Ok(count),
            Err(_) => {
                let error = io::Error::last_os_error();
                if error.kind() != io::ErrorKind::Interrupted {
                    return Err(error);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::*;

    fn pair() -> (UdpSocket, UdpSocket) {
        let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
        let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
        sender.connect(receiver.local_addr().unwrap()).unwrap();
        prepare_receiving(&receiver);
        (sender, receiver)
    }

    fn receive_all(receiver: &UdpSocket, count: usize) -> Vec<Vec<u8>> {
        let mut receiving = Receiving::new();
        let mut packets = Vec::new();
        while packets.len() < count {
            receiving.receive(receiver).unwrap();
            packets.extend(receiving.packets().map(<[u8]>::to_vec));
        }
        assert!(!receiving.receive(receiver).unwrap() && receiving.is_empty());
        receiving.look(receiver).unwrap();
        assert_eq!((receiving.drops(), receiving.truncated()), (0, 0));
        packets
    }

    #[test]
    fn batches_arrive_as_packets_with_and_without_offload() {
        for offload in [true, false] {
            let (sender, receiver) = pair();
            let packets: Vec<u8> = (0..44 * 1472u32)
                .map(|i| u8::try_from(i % 251).unwrap())
                .collect();
            let mut batcher = Batcher::new(offload);
            // In pieces of uneven length, of which two or three make a packet.
            let pieces: Vec<IoSlice<'_>> = packets
                .chunks(1472)
                .enumerate()
                .flat_map(|(number, packet)| {
                    let (head, rest) = packet.split_at(32);
                    let (payload, padding) = rest.split_at(if number % 3 == 0 { 1000 } else { 1440 });
                    [head, payload, padding]
                })
                .filter(|piece| !piece.is_empty())
                .map(IoSlice::new)
                .collect();
            batcher.send(&sender, &pieces, 1472).unwrap();
            assert_eq!(batcher.offload(), offload, "loopback takes offload");
            let expected: Vec<Vec<u8>> = packets.chunks(1472).map(<[u8]>::to_vec).collect();
            assert_eq!(receive_all(&receiver, 44), expected);
        }
    }

    #[test]
    fn single_packets_of_any_size_arrive() {
        let (sender, receiver) = pair();
        let mut batcher = Batcher::new(true);
        let sizes = [1usize, 7, 1472, 9000, 65_507];
        for size in sizes {
            batcher
                .send(&sender, &[IoSlice::new(&vec![5; size])], size)
                .unwrap();
        }
        let lens: Vec<usize> = receive_all(&receiver, sizes.len()).iter().map(Vec::len).collect();
        assert_eq!(lens, sizes);
    }

    #[test]
    fn offload_that_is_refused_is_given_up_for_good() {
        let (sender, receiver) = pair();
        let mut batcher = Batcher::new(true);
        // More than 128 segments are refused by every kernel.
        batcher.send(&sender, &[IoSlice::new(&[1]); 200], 1).unwrap();
        assert!(!batcher.offload());
        assert_eq!(receive_all(&receiver, 200).len(), 200);
    }

    #[test]
    fn more_may_wait_only_when_all_room_was_taken() {
        let (sender, receiver) = pair();
        (0..RECEIVE_DATAGRAMS + 1).for_each(|_| _ = sender.send(&[7; 9]).unwrap());
        let mut receiving = Receiving::new();
        assert!(receiving.receive(&receiver).unwrap());
        assert_eq!(receiving.packets().count(), RECEIVE_DATAGRAMS);
        assert!(!receiving.receive(&receiver).unwrap());
        assert_eq!(receiving.packets().collect::<Vec<_>>(), [&[7; 9]]);
    }

    #[test]
    fn drops_and_fill_are_told() {
        let (sender, receiver) = pair();
        socket2::SockRef::from(&receiver)
            .set_recv_buffer_size(20_000)
            .unwrap();
        for _ in 0..100 {
            sender.send(&[0; 1000]).unwrap();
        }
        let mut receiving = Receiving::new();
        assert!(receiving.look(&receiver).unwrap() > 200);
        let mut got = 0;
        while {
            receiving.receive(&receiver).unwrap();
            !receiving.is_empty()
        } {
            got += receiving.packets().count();
        }
        assert_eq!(receiving.look(&receiver).unwrap(), 0);
        assert_eq!(receiving.drops(), u64::try_from(100 - got).unwrap());
        assert!(got < 100);
    }
}
