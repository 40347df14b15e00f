#ifndef DEKD_CORE_MEMORY_SCAN_H_
#define DEKD_CORE_MEMORY_SCAN_H_

#include <cstdint>

#include "key_table.h"
#include "status.h"

namespace dekd {

// What a scan of the process's own memory found.
struct ScanResult final {
  // Copies of the key outside of the locked pool.
  uint32_t copies = 0;
  // Bytes that were looked at.
  uint64_t bytes = 0;
};

// count_copies looks for the bytes of `key` in every readable and writable mapping of this process but the locked pool:
// heap, stacks and data of all threads. Other threads go on meanwhile; a copy that is made and wiped between two looks
// is not seen. kSystemFailed with errno when the mappings cannot be listed.
Result<ScanResult> count_copies(KeyTable& table, KeyHandle key);

// prove_leak_plant puts a copy of `key` on the ordinary heap, DELIBERATELY, to show that count_copies would see a leak;
// prove_leak_clear wipes and frees it. One copy at a time. For `dekd prove` only.
Status prove_leak_plant(KeyTable& table, KeyHandle key);
void prove_leak_clear();

}  // namespace dekd

#endif  // DEKD_CORE_MEMORY_SCAN_H_
