//! GPUs that a plan can be made for without having one.

use super::Gpu;
use crate::recipe::problem::nearest;

/// One kind of GPU, and how it is connected where it is usually found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Card {
    /// What users call it.
    pub name: &'static str,
    /// What CUDA calls it; [`crate::metrics::throughput::peak`] knows its peak by this name.
    pub cuda: &'static str,
    /// GB that CUDA reports, about: less than is sold, by what the driver and error correction take.
    pub memory: f64,
    /// Compute capability.
    pub capability: (u32, u32),
    /// GB/s to others in its machine, each way.
    pub node_link: f64,
    /// GB/s to other machines, each way.
    pub network: f64,
}

/// What is known. Links inside a machine are the data sheets': of NVLink half of the "total bandwidth" (A100 600, H100 and
/// H200 900, B200 1,800 GB/s), else PCIe with 16 lanes (generation 4: 32 GB/s, 5: 64 GB/s). The network is that of NVIDIA's own
/// machines: a card of 200 Gb/s a GPU in the DGX A100, of 400 Gb/s in the DGX H100, H200 and B200; for the others, which are
/// found in all kinds of machines, 100 Gb/s is assumed.
const CARDS: [Card; 11] = [
    card("a10-24g", "NVIDIA A10", 23.6, (8, 6), 32.0, 12.5),
    card("a100-40g", "NVIDIA A100-SXM4-40GB", 42.3, (8, 0), 300.0, 25.0),
    card("a100-80g", "NVIDIA A100-SXM4-80GB", 84.9, (8, 0), 300.0, 25.0),
    card("b200-180g", "NVIDIA B200", 191.5, (10, 0), 900.0, 50.0),
    card("h100-80g", "NVIDIA H100 80GB HBM3", 84.9, (9, 0), 450.0, 50.0),
    card("h100-pcie-80g", "NVIDIA H100 PCIe", 84.9, (9, 0), 64.0, 12.5),
    card("h200-141g", "NVIDIA H200", 150.0, (9, 0), 450.0, 50.0),
    card("l4-24g", "NVIDIA L4", 23.6, (8, 9), 32.0, 12.5),
    card("l40s-48g", "NVIDIA L40S", 47.6, (8, 9), 32.0, 12.5),
    card("rtx3090-24g", "NVIDIA GeForce RTX 3090", 25.3, (8, 6), 32.0, 12.5),
    card("rtx4090-24g", "NVIDIA GeForce RTX 4090", 25.2, (8, 9), 32.0, 12.5),
];

const fn card(
    name: &'static str,
    cuda: &'static str,
    memory: f64,
    capability: (u32, u32),
    node_link: f64,
    network: f64,
) -> Card {
    Card { name, cuda, memory, capability, node_link, network }
}

impl Card {
    /// The card of a name that users write.
    ///
    /// # Errors
    /// A name that is not known, with those that are.
    pub fn named(name: &str) -> Result<Self, String> {
        let known = CARDS.map(|card| card.name);
        CARDS.into_iter().find(|card| card.name.eq_ignore_ascii_case(name)).ok_or_else(|| {
            let near = nearest(name, known).map_or(String::new(), |near| format!("did you mean {near}? "));
            format!("no GPU of this name; {near}known are {}", known.join(", "))
        })
    }

    /// The card that CUDA calls so; `None` for one that is not known.
    #[must_use]
    pub fn of(cuda: &str) -> Option<Self> {
        CARDS.into_iter().find(|card| card.cuda == cuda)
    }

    /// Such a device.
    #[must_use]
    pub fn gpu(&self) -> Gpu {
        Gpu { name: self.cuda.to_owned(), memory: (self.memory * 1e9) as u64, capability: self.capability }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::throughput;
    use crate::plan::Arithmetic;

    #[test]
    fn every_card_has_a_peak_and_is_found_by_both_names() {
        for card in CARDS {
            assert!(throughput::peak(card.cuda, Arithmetic::Bf16).is_some(), "{}", card.name);
            assert_eq!((Card::named(card.name), Card::of(card.cuda)), (Ok(card), Some(card)));
        }
        assert_eq!(Card::named("H100-80G").unwrap().gpu().memory, 84_900_000_000);
    }

    #[test]
    fn a_name_that_is_not_known_is_answered_with_those_that_are() {
        let said = Card::named("h100-80gb").unwrap_err();
        assert!(said.contains("did you mean h100-80g?") && said.contains("rtx4090-24g"), "{said}");
        assert!(!Card::named("tpu").unwrap_err().contains("did you mean"));
    }
}
