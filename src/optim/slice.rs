//! Parts of tensors.

use tch::Tensor;

/// A run of a tensor's elements, which is what a rank holds of it where ranks share it.
#[derive(Debug)]
pub struct Slice {
    /// The tensor's name.
    pub name: String,
    /// The whole tensor's shape.
    pub shape: Vec<i64>,
    /// How many of its elements, row by row, come before those that are here.
    pub from: i64,
    /// Those that are here: of the whole shape where all are, else `[n]`.
    pub tensor: Tensor,
}

impl Slice {
    /// All of a tensor.
    #[must_use]
    pub fn whole(name: String, tensor: Tensor) -> Self {
        Self { name, shape: tensor.size(), from: 0, tensor }
    }

    /// Whether it is all of the tensor.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.tensor.numel() as i64 == self.shape.iter().product::<i64>()
    }
}

/// What of a parameter a rank updates.
#[derive(Debug)]
pub struct Held {
    /// Which parameter.
    pub parameter: usize,
    /// How many of its elements, row by row, come before those that are here.
    pub from: i64,
    /// Those that are here, as they compute: of the parameter's shape where all are, else `[n]`.
    pub weight: Tensor,
}
