// What is asked of a GPU besides computing: copies that wait for nothing, work recorded once and replayed, and to be told
// where the host waits.
#pragma once

#include <ATen/core/Tensor.h>

extern "C" {
const char *hephaestus_send(const at::Tensor *x, int device, at::Tensor **sent);

struct hephaestus_graph;
const char *hephaestus_graph_begin(int device, hephaestus_graph **graph);
const char *hephaestus_graph_end(hephaestus_graph *graph);
const char *hephaestus_graph_replay(hephaestus_graph *graph);
void hephaestus_graph_drop(hephaestus_graph *graph);

const char *hephaestus_forbid_waiting(bool forbid);
}
