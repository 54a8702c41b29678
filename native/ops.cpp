// Operations that tch does not bind, as extern "C" functions over at::Tensor*.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
extern "C" const char *hephaestus_version() { return at::get_num_threads() > 0 ? "x" : ""; }
