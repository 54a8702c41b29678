#!/usr/bin/env bash
# Goes on from every mode on 1 to 4 ranks in every mode on 1 to 4 ranks, on the CPU, and shows the table: the largest relative
# difference of a loss from the undisturbed run of one process, or `differs` where what is read is not bit for bit what was
# saved. Fails where one differs by more than 1e-6. About ten minutes on two cores.
set -euo pipefail
cd "$(dirname "$0")/.."
exec cargo test --release --locked -p hephaestus --test tests -- --exact --ignored --nocapture \
    distributed::resuming::every_mode_and_number_of_ranks_goes_on_from_every
