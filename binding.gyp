# The node-gyp build of native/sources.txt, for machines without CMake; native/CMakeLists.txt is the other one. It is not
# in the published package: a binding.gyp there would make npm build it at every install.
{
  'targets': [
    {
      'target_name': 'addon',
      'sources': [
        "<!@(node -p \"require('fs').readFileSync('native/sources.txt','utf8').trim().split(/\\s+/).map(s=>'native/'+s).join(' ')\")",
      ],
      'defines': [
        'NAPI_VERSION=9',
        'NAPI_DISABLE_CPP_EXCEPTIONS',
        'NODE_ADDON_API_DISABLE_DEPRECATED',
        'NODE_API_SWALLOW_UNTHROWABLE_EXCEPTIONS',
      ],
      'cflags_cc!': ['-std=gnu++17', '-std=gnu++20', '-O3'],
      'cflags_cc': [
        '-isystem', "<!(node -p \"require('path').dirname(require.resolve('node-addon-api/package.json'))\")",
        '-std=c++20', '-O3', '-fno-exceptions', '-fno-rtti', '-fvisibility=hidden',
        '-Wall', '-Wextra', '-Wshadow', '-Wconversion', '-Wsign-conversion', '-Werror',
      ],
      'ldflags': ['-Wl,-z,now', '-Wl,-z,nodelete'],
    },
  ],
}
