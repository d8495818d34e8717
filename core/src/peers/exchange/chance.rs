//! Choosing at random, from a seed that the caller draws.

/// Numbers that look like chance: SplitMix64 (Steele, Lea, Flood 2014). The same seed gives the same ones, which a
/// simulation needs; a real client's seed comes from the system's randomness.
#[derive(Debug, Clone)]
pub struct Chance(u64);

impl Chance {
    /// Begins with a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Returns the next number.
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Returns a number below `end`, which is not 0.
    pub fn below(&mut self, end: usize) -> usize {
        ((u128::from(self.draw()) * end as u128) >> 64) as usize
    }
}

/// Chooses up to `count` of `all` at random, in different groups while that goes: with networks as groups nobody who has
/// many servers in one network is asked for more than his share.
///
/// `group` is told an index below `all`. Takes O(count) time in the usual case, O(count²) in the worst.
pub fn choose<G: PartialEq>(
    chance: &mut Chance,
    all: usize,
    count: usize,
    group: impl Fn(usize) -> G,
) -> Vec<usize> {
    let count = count.min(all);
    let mut chosen: Vec<usize> = Vec::with_capacity(count);
    let mut groups: Vec<G> = Vec::with_capacity(count);
    // Some draws for different groups; then whoever comes.
    for _ in 0..count * 8 {
        if chosen.len() == count {
            return chosen;
        }
        let (index, group_of) = {
            let index = chance.below(all);
            (index, group(index))
        };
        if !chosen.contains(&index) && !groups.contains(&group_of) {
            chosen.push(index);
            groups.push(group_of);
        }
    }
    while chosen.len() < count {
        let start = chance.below(all);
        let next = (start..all).chain(0..start).find(|index| !chosen.contains(index));
        chosen.extend(next);
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_chosen_once_and_all_of_them_sometimes() {
        let mut chance = Chance::new(7);
        let mut seen = [0_u32; 10];
        for _ in 0..1_000 {
            let chosen = choose(&mut chance, 10, 3, |index| index);
            assert_eq!(chosen.len(), 3);
            assert!(chosen[0] != chosen[1] && chosen[1] != chosen[2] && chosen[0] != chosen[2]);
            chosen.into_iter().for_each(|index| seen[index] += 1);
        }
        assert!(seen.iter().all(|count| (240..360).contains(count)), "{seen:?}");
        assert_eq!(choose(&mut chance, 2, 3, |_| ()).len(), 2);
        assert!(choose(&mut chance, 0, 3, |_| ()).is_empty());
    }

    #[test]
    fn a_crowd_in_one_network_gets_one_seat() {
        let mut chance = Chance::new(1);
        for _ in 0..200 {
            // 20 in network 0, one each in networks 1 and 2.
            let chosen = choose(&mut chance, 22, 3, |index| index.saturating_sub(19));
            let crowd = chosen.iter().filter(|index| **index < 20).count();
            assert!((1..=3).contains(&crowd));
        }
        let seats: usize = (0..500)
            .map(|_| choose(&mut chance, 40, 3, |index| if index < 20 { 0 } else { index }))
            .map(|chosen| chosen.iter().filter(|index| **index < 20).count())
            .sum();
        assert!(seats <= 500, "half of all servers in one network got {seats} of 1,500 seats");
    }
}
