// A reader of frames that believes what a frame says of its length, as readers have. It is planted: a run of this target
// that finds nothing in ten seconds says that the other runs prove nothing.

#include "fuzz.h"

using namespace dekd::fuzz;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  Input in(data, size);
  if (in.byte() != 0xc1 || in.byte() != 1) {
    return 0;
  }
  const size_t length = static_cast<size_t>(in.byte()) << 8 | in.byte();
  const Bytes body = in.rest();
  if (length > body.size() + 1) {
    return 0;
  }
  unsigned sum = 0;
  for (size_t i = 0; i < length; ++i) {
    sum += body.data()[i];
  }
  return sum == 0xffffffff ? 1 : 0;
}
