#ifndef DEKD_CORE_HIDDEN_MEMORY_H_
#define DEKD_CORE_HIDDEN_MEMORY_H_

#include <cstdint>
#include <span>
#include <string_view>

namespace dekd {

// is_hidden says whether the kernel refuses to read these pages on behalf of another process. It asks for one byte in the
// two ways in which a passive reader would get it, /proc/PID/mem and process_vm_readv, on the process itself: a call
// named memfd_secret that gives ordinary memory, in an emulated or a patched kernel, shows here. A way that is itself
// forbidden counts as refused. Not tried: vmsplice and O_DIRECT, on which kernels with CVE-2024-35872 fall over.
bool is_hidden(std::span<const uint8_t> pages);

// keeps_direct_map says whether a kernel of this machine type and command line leaves secret pages in its direct map,
// where a fault of the kernel's own still reads them: CVE-2024-50182, on arm64 that was not started with rodata=full.
// Kernels with the fix refuse memfd_secret there, so that there is nothing to tell apart by version.
bool keeps_direct_map(std::string_view machine, std::string_view command_line);

// The same, of the kernel that runs.
bool keeps_direct_map();

}  // namespace dekd

#endif  // DEKD_CORE_HIDDEN_MEMORY_H_
