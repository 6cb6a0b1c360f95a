//! Dividing a room: fixed sizes, shares, and one that takes the rest.

use super::{Bytes, Size};

/// What everything is aligned to, in bytes: 1 MiB suits every disk, RAID and flash memory.
pub(super) const UNIT: u64 = 1 << 20;

/// Something that wants room.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wish {
    pub(super) size: Size,
    pub(super) min: Option<Bytes>,
    pub(super) max: Option<Bytes>,
}

/// A room is too small.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{missing} are missing: {needed} are needed, and there is room for {room}", missing = Bytes(needed.0.saturating_sub(room.0)))]
pub struct FitError {
    /// What is needed at least.
    pub needed: Bytes,
    /// What there is.
    pub room: Bytes,
}

/// Divides `room` bytes; shares are those of `whole` bytes. Every size is a multiple of [`UNIT`], fixed ones rounded up.
/// At most one wish is for the rest.
pub(super) fn fit(wishes: &[Wish], room: u64, whole: u64) -> Result<Vec<u64>, FitError> {
    let room = room / UNIT * UNIT;
    let mut sizes: Vec<u64> = wishes.iter().map(|wish| wish.without_rest(whole)).collect();
    let needed = sizes.iter().fold(0u64, |sum, size| sum.saturating_add(*size));
    if needed > room {
        return Err(FitError {
            needed: Bytes(needed),
            room: Bytes(room),
        });
    }
    for (wish, size) in wishes.iter().zip(&mut sizes) {
        if wish.size == Size::Rest {
            let most = wish.max.map_or(u64::MAX, |max| (max.0 / UNIT * UNIT).max(*size));
            *size = (*size + room - needed).min(most);
        }
    }
    Ok(sizes)
}

impl Wish {
    /// The size; of the rest, the least that it may be.
    fn without_rest(&self, whole: u64) -> u64 {
        let up = |bytes: u64| bytes.div_ceil(UNIT).saturating_mul(UNIT).max(UNIT);
        let least = up(self.min.map_or(0, |min| min.0));
        match self.size {
            Size::Fixed(bytes) => up(bytes.0),
            Size::Rest => least,
            Size::PerCent(per_cent) => {
                let share = u128::from(whole) * u128::from(per_cent) / 100;
                let share = u64::try_from(share).unwrap_or(u64::MAX) / UNIT * UNIT;
                let most = self.max.map_or(u64::MAX, |max| max.0 / UNIT * UNIT);
                share.min(most).max(least)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn wish(size: &str) -> Wish {
        Wish {
            size: size.parse().unwrap(),
            min: None,
            max: None,
        }
    }

    #[test]
    fn fixed_sizes_are_rounded_up_and_the_rest_takes_what_is_left() {
        let wishes = [wish("1B"), wish("10%"), wish("rest"), wish("3MiB")];
        let sizes = fit(&wishes, 100 * UNIT + 5, 100 * UNIT).unwrap();
        assert_eq!(sizes, [UNIT, 10 * UNIT, 86 * UNIT, 3 * UNIT]);
        let error = fit(&[wish("60MiB"), wish("60MiB")], 100 * UNIT, 100 * UNIT).unwrap_err();
        assert_eq!(
            error.to_string(),
            "20MiB are missing: 120MiB are needed, and there is room for 100MiB"
        );
    }

    fn wishes() -> impl Strategy<Value = Vec<Wish>> {
        let size = prop_oneof![
            (1u64..50 * UNIT).prop_map(|bytes| Size::Fixed(Bytes(bytes))),
            (1u8..=30).prop_map(Size::PerCent),
        ];
        let bound = || prop::option::of((1u64..20 * UNIT).prop_map(Bytes));
        let wish = (size, bound(), bound()).prop_map(|(size, min, max)| Wish {
            size,
            min,
            max: max.filter(|max| min.is_none_or(|min| min.0 + UNIT <= max.0)),
        });
        (
            prop::collection::vec(wish, 0..8),
            any::<bool>(),
            any::<prop::sample::Index>(),
        )
            .prop_map(|(mut wishes, rest, at)| {
                if rest && !wishes.is_empty() {
                    let at = at.index(wishes.len());
                    wishes[at].size = Size::Rest;
                }
                wishes
            })
    }

    proptest! {
        #[test]
        fn nobody_gets_too_little_and_all_fit(wishes in wishes(), room in 0u64..400 * UNIT) {
            match fit(&wishes, room, room) {
                Ok(sizes) => {
                    prop_assert!(sizes.iter().sum::<u64>() <= room);
                    for (wish, size) in wishes.iter().zip(&sizes) {
                        prop_assert!(*size >= UNIT && size.is_multiple_of(UNIT));
                        if let Size::Fixed(bytes) = wish.size {
                            prop_assert!(*size >= bytes.0 && *size < bytes.0 + UNIT);
                        } else {
                            prop_assert!(wish.min.is_none_or(|min| *size >= min.0));
                        }
                    }
                    let unbounded = wishes.iter().any(|wish| wish.size == Size::Rest && wish.max.is_none());
                    prop_assert!(!unbounded || sizes.iter().sum::<u64>() == room / UNIT * UNIT);
                }
                Err(error) => {
                    prop_assert!(error.needed.0 > error.room.0);
                    // With what is said to be missing it fits.
                    let more = room + error.needed.0 - error.room.0;
                    prop_assert!(fit(&wishes, more, room).is_ok());
                }
            }
        }
    }
}
