// Causal attention inside the segments of a packed batch, without a mask of all pairs.
//
// N tokens, H query heads, K key and value heads, D head size, S segments.
#include "attention.h"
#include "checks.h"
#include "guarded.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include <vector>

namespace {

using at::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::Function;
using torch::autograd::variable_list;

// [N, H, D], a segment of it, as libtorch's kernels take it: [1, H, T, D].
Tensor segment(const Tensor &x, int64_t begin, int64_t length) {
  return x.narrow(0, begin, length).transpose(0, 1).unsqueeze(0);
}

// Causal attention inside each segment; q, k and v are [N, H, D]. bf16 is widened for the products, which are small here:
// oneDNN's bf16 ones cost more to set up than they gain (1.3 and 2 times as long, forward and backward, on documents of
// 160 tokens).
struct Attend : Function<Attend> {
  static Tensor forward(AutogradContext *ctx, const Tensor &q, const Tensor &k, const Tensor &v,
                        const std::vector<int64_t> &lengths) {
    auto y = at::empty(q.sizes(), q.options());
    variable_list saved{q, k, v, y};
    const auto wide_q = q.to(at::kFloat), wide_k = k.to(at::kFloat), wide_v = v.to(at::kFloat);
    int64_t begin = 0;
    for (const auto length : lengths) {
      const auto part = [&](const Tensor &x) { return segment(x, begin, length); };
      auto [mixed, log_sums] = at::_scaled_dot_product_flash_attention_for_cpu(part(wide_q), part(wide_k),
                                                                                     part(wide_v), 0.0, true);
      part(y).copy_(mixed);
      saved.push_back(log_sums);
      begin += length;
    }
    ctx->save_for_backward(std::move(saved));
    ctx->saved_data["lengths"] = lengths;
    return y;
  }
  static variable_list backward(AutogradContext *ctx, variable_list gradients) {
    const auto saved = ctx->get_saved_variables();
    const auto lengths = ctx->saved_data["lengths"].toIntVector();
    const auto wide = [](const Tensor &x) { return x.to(at::kFloat); };
    const auto &q = saved[0], &k = saved[1], &v = saved[2];
    const auto wide_q = wide(q), wide_k = wide(k), wide_v = wide(v), wide_y = wide(saved[3]);
    const auto dy = wide(gradients[0].contiguous());
    auto dq = at::empty(q.sizes(), q.options()), dk = at::empty(k.sizes(), k.options()),
         dv = at::empty(v.sizes(), v.options());
    int64_t begin = 0;
    for (size_t i = 0; i < lengths.size(); ++i) {
      const auto part = [&](const Tensor &x) { return segment(x, begin, lengths[i]); };
      auto [q_part, k_part, v_part] = at::_scaled_dot_product_flash_attention_for_cpu_backward(
          part(dy), part(wide_q), part(wide_k), part(wide_v), part(wide_y), saved[4 + i], 0.0, true);
      part(dq).copy_(q_part);
      part(dk).copy_(k_part);
      part(dv).copy_(v_part);
      begin += lengths[i];
    }
    return {dq, dk, dv, Tensor()};
  }
};

// All segments at once on a GPU, by FlashAttention 2 (Dao 2023, arXiv 2307.08691): q [N, H, D], k and v [N, K, D], H a
// multiple of K; `ends` [S + 1] i32, 0 and where each segment ends. A `window` above 0 bounds how many tokens a query sees,
// itself included. cuDNN's attention over segments is not asked: libtorch 2.11 takes the head size for the longest segment
// in its backward pass (pytorch/pytorch#186142).
struct AttendOnGpu : Function<AttendOnGpu> {
  static Tensor forward(AutogradContext *ctx, const Tensor &q, const Tensor &k, const Tensor &v, const Tensor &ends,
                        int64_t longest, int64_t window) {
    auto [y, log_sums, seed, offset, mask] = at::_flash_attention_forward(
        q, k, v, ends, ends, longest, longest, /*dropout_p=*/0.0, /*is_causal=*/true, /*return_debug_mask=*/false,
        std::optional<double>(), left_of(window), right_of(window));
    ctx->save_for_backward({q, k, v, y, log_sums, seed, offset, ends});
    ctx->saved_data["longest"] = longest;
    ctx->saved_data["window"] = window;
    return y;
  }
  static variable_list backward(AutogradContext *ctx, variable_list gradients) {
    const auto saved = ctx->get_saved_variables();
    const auto &q = saved[0], &k = saved[1], &v = saved[2], &y = saved[3], &log_sums = saved[4], &seed = saved[5],
               &offset = saved[6], &ends = saved[7];
    const auto longest = ctx->saved_data["longest"].toInt(), window = ctx->saved_data["window"].toInt();
    auto [dq, dk, dv] = at::_flash_attention_backward(gradients[0].contiguous(), q, k, v, y, log_sums, ends, ends, longest,
                                                      longest, 0.0, true, seed, offset, std::optional<double>(),
                                                      left_of(window), right_of(window));
    return {dq, dk, dv, Tensor(), Tensor(), Tensor()};
  }

private:
  // Tokens before and after its own that a query sees.
  static std::optional<int64_t> left_of(int64_t window) {
    return window > 0 ? std::optional(window - 1) : std::nullopt;
  }
  static std::optional<int64_t> right_of(int64_t window) {
    return window > 0 ? std::optional<int64_t>(0) : std::nullopt;
  }
};

} // namespace

// Causal attention inside segments of the given lengths; q, k, v and y are [N, H, D].
const char *hephaestus_attend(const Tensor *q, const Tensor *k, const Tensor *v, const int64_t *lengths, size_t count,
                              Tensor **y) {
  return guarded([&] {
    check({q, k, v});
    TORCH_CHECK(q->is_cpu(), "a tensor on ", q->device(), ", expected the CPU");
    TORCH_CHECK(q->dim() == 3, "shape ", q->sizes(), ", expected [N, H, D]");
    same_shape(*q, *k);
    same_shape(*q, *v);
    std::vector<int64_t> all(lengths, lengths + count);
    int64_t tokens = 0;
    for (const auto length : all) {
      TORCH_CHECK(length > 0, "a segment of ", length, " tokens");
      tokens += length;
    }
    TORCH_CHECK(tokens == q->size(0), "segments of ", tokens, " tokens for ", q->size(0));
    *y = new Tensor(Attend::apply(*q, *k, *v, all));
  });
}

// The same on a GPU, where heads may share keys and values; bf16. `ends` [S + 1] i32 lies on the GPU.
const char *hephaestus_attend_on_gpu(const Tensor *q, const Tensor *k, const Tensor *v, const Tensor *ends,
                                     int64_t longest, int64_t window, Tensor **y) {
  return guarded([&] {
    TORCH_CHECK(q->is_cuda() && k->is_cuda() && v->is_cuda() && ends->is_cuda(), "tensors on ", q->device(),
                ", expected a GPU");
    TORCH_CHECK(q->scalar_type() == at::kBFloat16 && k->scalar_type() == at::kBFloat16 &&
                    v->scalar_type() == at::kBFloat16,
                "element type ", q->scalar_type(), ", expected bf16");
    TORCH_CHECK(q->dim() == 3 && q->size(2) % 8 == 0 && q->size(2) <= 256, "shape ", q->sizes(),
                ", expected [N, H, D] with D a multiple of 8 up to 256");
    same_shape(*k, *v);
    TORCH_CHECK(k->dim() == 3 && k->size(0) == q->size(0) && k->size(2) == q->size(2) && q->size(1) % k->size(1) == 0,
                "keys of ", k->sizes(), " for queries of ", q->sizes());
    TORCH_CHECK(ends->scalar_type() == at::kInt && ends->dim() == 1, "ends of ", ends->sizes());
    *y = new Tensor(AttendOnGpu::apply(*q, *k, *v, *ends, longest, window));
  });
}
