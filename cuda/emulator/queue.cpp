// What the C interface asks of a queue, for the emulator: its memory is ordinary memory, and its operations are complete when they return.
#include "../core/operations.h"
#include "../core/status.h"
#include "launch.h"

extern "C" {

int32_t pk_emulator_queue_chip(const pk_queue* queue, pk_chip* chip) { return PK_BUILD::imitated_chip(*queue, "pk_queue_chip", chip); }

int32_t pk_emulator_prepare(const pk_queue*) {
  PK_TRY(pk_emulator_haar_prepare());
  return pk_emulator_lora_prepare();
}

int32_t pk_emulator_status_read(const pk_queue*, const pk_status_record* status, pk_status_record* host) {
  *host = *status;
  return PK_OK;
}

}  // extern "C"
