// products.h: libtorch's products, of oneDNN for fp32 on the CPU, scaled ones for FP8.
#include "products.h"

#include <ATen/ATen.h>
#include <ATen/core/dispatch/Dispatcher.h>

namespace products {
namespace {

using loops::Quantized;

// The scaled products of tensor cores take multiples of this in every direction.
constexpr int64_t MULTIPLE = 16;

bool in_fp8(const Operand &a, const Operand &b) {
  const auto fits = [](const Tensor &x) { return x.size(0) % MULTIPLE == 0 && x.size(1) % MULTIPLE == 0; };
  return a.fp8() && b.fp8() && a.whole().numel() > 0 && fits(a.whole()) && fits(b.whole());
}

// a [n, k] times b [m, k]^T, both scaled by row: [n, m] of type `kind`. `fast` sums as tensor cores do by themselves, which
// keeps 14 bits or so: for activations, where the error of e4m3 is above that; gradients are summed in fp32.
Tensor scaled(const Quantized &a, const Quantized &b, at::ScalarType kind, bool fast) {
  const auto down = a.scales.unsqueeze(1), across = b.scales.unsqueeze(0);
  // Tensor cores round what they give to bf16.
  if (!a.codes.is_cpu() && kind == at::kBFloat16) {
    return at::_scaled_mm(a.codes, b.codes.t(), down, across, std::nullopt, std::nullopt, kind, fast);
  }
  // e4m3 is exact in both wider types, and scales are powers of two.
  return at::mm(a.codes.to(kind), b.codes.to(kind).t()).mul_(down).mul_(across);
}

// x [N, in] times weight^T as they are. fp32 on the CPU goes to oneDNN, which is faster than libtorch's own choice on many
// processors.
Tensor plain(const Tensor &x, const Tensor &weight, const std::optional<Tensor> &bias) {
  if (!x.is_cpu() || x.scalar_type() != at::kFloat || !at::globalContext().userEnabledMkldnn() || !at::hasMKLDNN())
    return at::linear(x, weight, bias);
  using Signature = Tensor(const Tensor &, const Tensor &, const std::optional<Tensor> &, c10::string_view,
                           c10::List<std::optional<at::Scalar>>, std::optional<c10::string_view>);
  static const auto linear =
      c10::Dispatcher::singleton().findSchemaOrThrow("mkldnn::_linear_pointwise", "").typed<Signature>();
  return linear.call(x, weight, bias, "none", c10::List<std::optional<at::Scalar>>(), "");
}

} // namespace

const Quantized &Operand::rows() const {
  if (!rows_) rows_ = loops::quantize_rows(whole_);
  return *rows_;
}

const Quantized &Operand::columns() const {
  if (!columns_) columns_ = loops::quantize_columns(whole_);
  return *columns_;
}

Tensor forward(const Operand &x, const Operand &weight, const std::optional<Tensor> &bias) {
  if (!in_fp8(x, weight)) return plain(x.whole(), weight.whole(), bias);
  auto y = scaled(x.rows(), weight.rows(), x.whole().scalar_type(), /*fast=*/true);
  return bias ? y.add_(*bias) : y;
}

Tensor by_input(const Operand &dy, const Operand &weight, Tensor sum) {
  const auto &of = dy.whole();
  if (!in_fp8(dy, weight)) {
    if (!sum.defined()) return plain(of, weight.whole().t(), std::nullopt);
    return of.is_cpu() ? sum.add_(plain(of, weight.whole().t(), std::nullopt)) : sum.addmm_(of, weight.whole());
  }
  auto dx = scaled(dy.rows(), weight.columns(), of.scalar_type(), /*fast=*/false);
  return sum.defined() ? sum.add_(dx) : dx;
}

Tensor by_weight(const Operand &dy, const Operand &x) {
  if (!in_fp8(dy, x)) return at::mm(dy.whole().t(), x.whole());
  return scaled(dy.columns(), x.columns(), dy.whole().scalar_type(), /*fast=*/false);
}

} // namespace products
