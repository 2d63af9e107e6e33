/* Runs a Lua script: a standard interpreter with pcall, coroutines, closures, a collector.
 * lua [script [arguments]]; the scripts in guests/lua are built in and found by name; otherwise it is a file.
 * Lua's errors are longjmps, and those WebAssembly exceptions (see sjlj.c). */
#include "guest.h"
#include "lauxlib.h"
#include "lualib.h"

static const char bench[] = {
#embed "../lua/bench.lua" suffix(, 0)
};
static const char nqueens[] = {
#embed "../lua/nqueens.lua" suffix(, 0)
};
static const struct {
    const char *name, *source;
} scripts[] = {{"bench", bench}, {"nqueens", nqueens}};

/* What luaL_openlibs opens, without io, os and package: those ask for more than WASI has. */
static const luaL_Reg libraries[] = {
    {LUA_GNAME, luaopen_base},         {LUA_COLIBNAME, luaopen_coroutine}, {LUA_TABLIBNAME, luaopen_table},
    {LUA_STRLIBNAME, luaopen_string},  {LUA_MATHLIBNAME, luaopen_math},    {LUA_UTF8LIBNAME, luaopen_utf8},
    {LUA_DBLIBNAME, luaopen_debug},
};

static int with_traceback(lua_State *L) {
    const char *message = lua_tostring(L, 1);
    luaL_traceback(L, L, message ? message : "(error is not a string)", 1);
    return 1;
}

int main(int argc, char **argv) {
    const char *wanted = argc > 1 ? argv[1] : "bench";
    lua_State *L = luaL_newstate();
    if (!L) return 1;
    for (size_t i = 0; i < sizeof libraries / sizeof *libraries; i++) {
        luaL_requiref(L, libraries[i].name, libraries[i].func, 1);
        lua_pop(L, 1);
    }
    lua_createtable(L, argc, 1);
    for (int i = 1; i < argc; i++) {
        lua_pushstring(L, argv[i]);
        lua_rawseti(L, -2, i - 1);
    }
    lua_setglobal(L, "arg");
    lua_pushcfunction(L, with_traceback);
    int status = -1;
    for (size_t i = 0; i < sizeof scripts / sizeof *scripts; i++)
        if (strcmp(scripts[i].name, wanted) == 0)
            status = luaL_loadbuffer(L, scripts[i].source, strlen(scripts[i].source), wanted);
    if (status < 0) status = luaL_loadfile(L, wanted);
    if (status == LUA_OK) status = lua_pcall(L, 0, 0, 1);
    if (status != LUA_OK) fprintf(stderr, "lua: %s\n", lua_tostring(L, -1));
    lua_close(L);
    return status != LUA_OK;
}
