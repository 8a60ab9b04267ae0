// The launches that gather the listed ranks of an adapter.
#include "ranks.cuh"

#include <algorithm>

#include "../core/operations.h"
#include "../core/status.h"
#include "../ptx/launch.cuh"
#include "forward_launch.h"
#include "ranks.h"

namespace PK_BUILD {
namespace {

int32_t make_list(const pk_queue& queue, const pk_lora_middle& middle, int64_t ranks, pk_status_record* status, int32_t* list) {
  const int64_t count = middle.rank_count;
  Operands operands;
  operands.write_bytes("workspace", list, count * sizeof(int32_t));
  if ((middle.has & PK_LORA_MIDDLE_RANKS) != 0) {
    operands.read_bytes("ranks", middle.ranks, count * sizeof(int32_t));
    operands.read_write_bytes("status", status, status != nullptr ? sizeof(pk_status_record) : 0);
    const LaunchShape shape{"lora_check_ranks", grid_of(tiles_of(count, RanksConfig::kThreads)), RanksConfig::kThreads, 0};
    return launch(queue, shape, operands, lora_check_ranks, middle.ranks, count, ranks, status, list);
  }
  for (int64_t first = 0; first < count; first += RanksConfig::kFromHost) {
    const auto of_launch = static_cast<int32_t>(std::min<int64_t>(count - first, RanksConfig::kFromHost));
    HostRanks from{};
    std::copy_n(middle.ranks + first, of_launch, from.ranks);
    PK_TRY(launch(queue, {"lora_store_ranks", {1, 1, 1}, RanksConfig::kThreads, 0}, operands, lora_store_ranks, from, of_launch, list + first));
  }
  return PK_OK;
}

// A's rows, or B's columns, and the matrix that they are then.
template <class E>
int32_t gather(const pk_queue& queue, const char* name, int64_t batches, int64_t m, bool ranks_are_rows, const int32_t* list, int64_t count, void* copy, pk_matrix* factor) {
  const int64_t of_factor = factor->batch_stride == 0 ? 1 : batches;
  const pk_matrix gathered{copy,  ranks_are_rows ? count : factor->rows, ranks_are_rows ? factor->columns : count, ranks_are_rows ? factor->columns : count, 1, 0, factor->element_type, 0};
  const GatheredRanks<E> ranks{batched<const E>(*factor), of_factor, gathered.rows, gathered.columns, ranks_are_rows, list, static_cast<E*>(copy)};
  const int64_t elements = of_factor * gathered.rows * gathered.columns;
  if (elements > 0 && m > 0) {
    Operands operands;
    operands.read(name, *factor, of_factor);
    operands.read_bytes("workspace", list, count * sizeof(int32_t));
    operands.write_bytes("workspace", copy, elements * sizeof(E));
    const LaunchShape shape{"lora_gather_ranks", grid_of(tiles_of(elements, RanksConfig::kThreads)), RanksConfig::kThreads, 0};
    PK_TRY(launch(queue, shape, operands, lora_gather_ranks<E>, ranks));
  }
  const int64_t batch_stride = factor->batch_stride == 0 ? 0 : gathered.rows * gathered.columns;
  *factor = gathered;
  factor->batch_stride = batch_stride;
  return PK_OK;
}

}  // namespace

template <class Target>
int32_t gather_ranks(const pk_queue& queue, int64_t batches, int64_t m, pk_status_record* status, char* workspace, Target* target) {
  if (!lora_lists_ranks(target->middle)) return PK_OK;
  const LoraRanksLayout layout = lora_ranks_layout(*target, batches);
  const int64_t count = target->middle.rank_count;
  auto* list = reinterpret_cast<int32_t*>(workspace);
  if (count > 0) PK_TRY(make_list(queue, target->middle, target->a.rows, status, list));
  const auto run = [&](auto element) {
    using E = decltype(element);
    PK_TRY((gather<E>(queue, "a", batches, m, true, list, count, workspace + layout.list, &target->a)));
    return gather<E>(queue, "b", batches, m, false, list, count, workspace + layout.list + layout.a, &target->b);
  };
  PK_TRY(target->adapter_element_type == PK_F32 ? run(uint32_t{}) : run(uint16_t{}));
  target->middle.ranks = list;
  return PK_OK;
}

template int32_t gather_ranks(const pk_queue&, int64_t, int64_t, pk_status_record*, char*, pk_lora_target*);
template int32_t gather_ranks(const pk_queue&, int64_t, int64_t, pk_status_record*, char*, pk_lora_gradient_target*);
template int32_t gather_ranks(const pk_queue&, int64_t, int64_t, pk_status_record*, char*, LoraListedAdapter*);

}  // namespace PK_BUILD

extern "C" {

int32_t PK_OPERATION(lora_ranks_prepare)(void) {
  using namespace PK_BUILD;
  PK_TRY(prepare(lora_store_ranks));
  PK_TRY(prepare(lora_check_ranks));
  PK_TRY(prepare(lora_gather_ranks<uint16_t>));
  return prepare(lora_gather_ranks<uint32_t>);
}

}  // extern "C"
