// The three matrix products of a linear layer y = x weight^T, in the precision asked for.
//
// In FP8 (Micikevicius et al. 2022, arXiv 2209.05433) each operand of each product is e4m3 with a scale for every row or
// column that is not summed over, made from what it holds at the moment; sums are fp32 and results as wide as x. What is
// not a multiple of 16 in every direction is multiplied as it is.
//
// N tokens; a weight is [out, in].
#pragma once

#include "loops.h"

#include <ATen/core/Tensor.h>

#include <optional>

namespace products {

using at::Tensor;

// A matrix that takes part in products; its codes in FP8 are made once for all of them.
class Operand {
public:
  Operand(Tensor whole, bool fp8) : whole_(std::move(whole)), fp8_(fp8) {}

  const Tensor &whole() const { return whole_; }
  bool fp8() const { return fp8_; }
  // Codes of the matrix with a scale a row; of its transpose with a scale a row of that.
  const loops::Quantized &rows() const;
  const loops::Quantized &columns() const;

private:
  Tensor whole_;
  bool fp8_;
  mutable std::optional<loops::Quantized> rows_, columns_;
};

// x [N, in] times weight^T, plus bias [out]: [N, out].
Tensor forward(const Operand &x, const Operand &weight, const std::optional<Tensor> &bias);
// The gradient by x: dy [N, out] times weight; added to `sum` where that is defined, which then is the result.
Tensor by_input(const Operand &dy, const Operand &weight, Tensor sum = {});
// The gradient by weight: dy^T times x.
Tensor by_weight(const Operand &dy, const Operand &x);

} // namespace products
