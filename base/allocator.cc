// What jemalloc reads as it starts (docs/decisions/0016). Programs that link patina::allocator
// allocate by it: malloc, free and operator new are its own in the whole process, SQLite's too.

// The name is jemalloc's, and C's.
extern "C" {
// This daemon lives beside customers' work: few arenas (the default is four per core), and pages
// that were freed go back to the system after 5 s, by a thread of jemalloc's: idle ones do not
// care.
extern const char* malloc_conf;
const char* malloc_conf =
    "narenas:4,dirty_decay_ms:5000,muzzy_decay_ms:0,background_thread:true,"
    "max_background_threads:1";
}
