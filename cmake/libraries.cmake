# Every third-party library, each named here and nowhere else in the build. Wrapper files: src/base/json.c (Jansson),
# src/base/sha256.c (OpenSSL), src/text/regex_pcre2.c (PCRE2), src/text/normalize.c (utf8proc), apps/cli/line_edit.c (libedit).
find_package(PkgConfig REQUIRED)
find_package(Threads REQUIRED)
pkg_check_modules(JANSSON REQUIRED IMPORTED_TARGET jansson>=2.13)
pkg_check_modules(CRYPTO REQUIRED IMPORTED_TARGET libcrypto>=1.1.1)
pkg_check_modules(PCRE2 REQUIRED IMPORTED_TARGET libpcre2-8>=10.30)
pkg_check_modules(UTF8PROC REQUIRED IMPORTED_TARGET libutf8proc>=2.5)
pkg_check_modules(EDIT IMPORTED_TARGET libedit)
pkg_check_modules(CMOCKA IMPORTED_TARGET cmocka)
set(QUERN_LIBRARIES PkgConfig::JANSSON PkgConfig::CRYPTO PkgConfig::PCRE2 PkgConfig::UTF8PROC Threads::Threads m)
message(STATUS "libedit: ${EDIT_FOUND} (line editing in chat)   cmocka: ${CMOCKA_FOUND} (tests)")
