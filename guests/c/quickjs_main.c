/* Runs a JavaScript program: a large interpreter with a collector, exceptions, generators and promises.
 * quickjs [script [arguments]]; the scripts in guests/js are built in and found by name; otherwise it is a file.
 * A script has `print` and `scriptArgs`, no clock and no randomness of its own. */
#include "guest.h"
#include "quickjs.h"

static const char bench[] = {
#embed "../js/bench.js" suffix(, 0)
};
static const struct {
    const char *name, *source;
} scripts[] = {{"bench", bench}};

static JSValue print(JSContext *context, JSValueConst this_value, int argc, JSValueConst *argv) {
    (void)this_value;
    for (int i = 0; i < argc; i++) {
        const char *text = JS_ToCString(context, argv[i]);
        if (!text) return JS_EXCEPTION;
        printf("%s%s", i ? " " : "", text);
        JS_FreeCString(context, text);
    }
    putchar('\n');
    return JS_UNDEFINED;
}

static int report(JSContext *context) {
    JSValue problem = JS_GetException(context);
    const char *text = JS_ToCString(context, problem);
    fprintf(stderr, "quickjs: %s\n", text ? text : "(exception without text)");
    JS_FreeCString(context, text);
    JSValue stack = JS_GetPropertyStr(context, problem, "stack");
    const char *trace = JS_IsUndefined(stack) ? NULL : JS_ToCString(context, stack);
    if (trace) fputs(trace, stderr);
    JS_FreeCString(context, trace);
    JS_FreeValue(context, stack);
    JS_FreeValue(context, problem);
    return 1;
}

static char *read_file(const char *name) {
    FILE *file = fopen(name, "rb");
    if (!file) {
        perror(name);
        exit(1);
    }
    size_t used = 0, room = 4096;
    char *text = allocate(room + 1);
    for (size_t got; (got = fread(text + used, 1, room - used, file)) > 0;)
        if ((used += got) == room && !(text = realloc(text, (room *= 2) + 1))) exit(1);
    fclose(file);
    text[used] = 0;
    return text;
}

int main(int argc, char **argv) {
    const char *wanted = argc > 1 ? argv[1] : "bench", *source = NULL;
    char *read = NULL;
    for (size_t i = 0; i < sizeof scripts / sizeof *scripts; i++)
        if (strcmp(scripts[i].name, wanted) == 0) source = scripts[i].source;
    if (!source) source = read = read_file(wanted);
    JSRuntime *runtime = JS_NewRuntime();
    JSContext *context = runtime ? JS_NewContext(runtime) : NULL;
    if (!context) return 1;
    JSValue global = JS_GetGlobalObject(context), arguments = JS_NewArray(context);
    for (int i = 1; i < argc; i++) JS_SetPropertyUint32(context, arguments, (uint32_t)i - 1, JS_NewString(context, argv[i]));
    JS_SetPropertyStr(context, global, "scriptArgs", arguments);
    JS_SetPropertyStr(context, global, "print", JS_NewCFunction(context, print, "print", 1));
    JS_FreeValue(context, global);
    JSValue result = JS_Eval(context, source, strlen(source), wanted, JS_EVAL_TYPE_GLOBAL);
    int failed = JS_IsException(result) && report(context);
    JS_FreeValue(context, result);
    JSContext *job;
    for (int status; !failed && (status = JS_ExecutePendingJob(runtime, &job)) != 0;)
        if (status < 0) failed = report(job);
    JS_FreeContext(context);
    JS_FreeRuntime(runtime);
    free(read);
    return failed;
}
