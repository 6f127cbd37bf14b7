/* The header of a safetensors file. The reader takes the JSON that the format allows and refuses
   all else: it never looks beyond `end`, and it never recurses. */

#include "safetensors.h"

#include <stdio.h>
#include <string.h>

#include "kws.h"

typedef struct {
    const char *at, *end;
} reader;

static void skip_blanks(reader *r) {
    while (r->at < r->end && (*r->at == ' ' || *r->at == '\n' || *r->at == '\r' || *r->at == '\t'))
        r->at++;
}

/* Whether the next character is `c`, which is then taken. */
static int take(reader *r, char c) {
    skip_blanks(r);
    if (r->at < r->end && *r->at == c) return r->at++, 1;
    return 0;
}

/* A string without escapes of at most `most` - 1 bytes. */
static int take_name(reader *r, char *name, size_t most) {
    size_t length = 0;
    if (!take(r, '"')) return 0;
    for (; r->at < r->end && *r->at != '"'; r->at++) {
        if (*r->at == '\\' || length + 1 >= most) return 0;
        name[length++] = *r->at;
    }
    name[length] = 0;
    return take(r, '"');
}

/* Any string, passed over. */
static int skip_string(reader *r) {
    if (!take(r, '"')) return 0;
    for (; r->at < r->end; r->at++) {
        if (*r->at == '"') return r->at++, 1;
        if (*r->at == '\\' && ++r->at == r->end) return 0;
    }
    return 0;
}

static int take_number(reader *r, size_t *number) {
    int digits = 0;
    *number = 0;
    skip_blanks(r);
    for (; r->at < r->end && *r->at >= '0' && *r->at <= '9'; r->at++, digits++) {
        if (*number > (SIZE_MAX >> 4) / 10) return 0;
        *number = *number * 10 + (size_t)(*r->at - '0');
    }
    return digits > 0;
}

/* `[1, 2, 3]`, at most `most` numbers; -1 if it is anything else. */
static int take_numbers(reader *r, size_t *numbers, int most) {
    int count = 0;
    if (!take(r, '[')) return -1;
    if (take(r, ']')) return 0;
    do {
        if (count == most || !take_number(r, &numbers[count++])) return -1;
    } while (take(r, ','));
    return take(r, ']') ? count : -1;
}

/* `{"__metadata__": {"key": "value", ...}}`: of no use here. */
static int skip_metadata(reader *r) {
    if (!take(r, '{')) return 0;
    if (take(r, '}')) return 1;
    do {
        if (!skip_string(r) || !take(r, ':') || !skip_string(r)) return 0;
    } while (take(r, ','));
    return take(r, '}');
}

static int element_bytes(element type) { return type == F16 ? 2 : type == I8 ? 1 : 4; }

/* `{"dtype": "F32", "shape": [..], "data_offsets": [begin, end]}` */
static int take_tensor(reader *r, tensor *t, const unsigned char *data, size_t data_bytes) {
    static const char *const types[] = {"F32", "F16", "I8", "I32"};
    char key[MAX_NAME], type[MAX_NAME];
    size_t span[2] = {1, 0};
    int has_type = 0, has_shape = 0, has_span = 0;
    if (!take(r, '{')) return 0;
    do {
        if (!take_name(r, key, sizeof key) || !take(r, ':')) return 0;
        if (!strcmp(key, "dtype")) {
            if (!take_name(r, type, sizeof type)) return 0;
            for (int i = 0; i < 4; i++)
                if (!strcmp(type, types[i])) t->type = (element)i, has_type = 1;
        } else if (!strcmp(key, "shape")) {
            t->dimensions = take_numbers(r, t->shape, MAX_DIMENSIONS);
            has_shape = t->dimensions >= 0;
        } else if (!strcmp(key, "data_offsets")) {
            has_span = take_numbers(r, span, 2) == 2;
        } else {
            return 0;
        }
    } while (take(r, ','));
    if (!take(r, '}') || !has_type || !has_shape || !has_span) return 0;
    if (span[0] > span[1] || span[1] > data_bytes) return 0;
    t->count = 1;
    for (int i = 0; i < t->dimensions; i++) {
        if (t->shape[i] && t->count > data_bytes / t->shape[i]) return 0;
        t->count *= t->shape[i];
    }
    t->data = data + span[0];
    return t->count * (size_t)element_bytes(t->type) == span[1] - span[0];
}

static int refuse(char *error, const char *reason) {
    snprintf(error, KWS_ERROR_BYTES, "%s", reason);
    return -1;
}

/* The JSON between `r->at` and `r->end`; `data` is what follows it in the file. */
static int read_header(reader *r, const unsigned char *data, size_t data_bytes,
                       tensor_table *table, char *error) {
    static const char damaged[] = "its header is damaged";
    char name[MAX_NAME];
    if (!take(r, '{')) return refuse(error, damaged);
    do {
        if (!take_name(r, name, sizeof name) || !take(r, ':')) return refuse(error, damaged);
        if (!strcmp(name, "__metadata__")) {
            if (!skip_metadata(r)) return refuse(error, damaged);
            continue;
        }
        if (table->count == MAX_TENSORS) return refuse(error, "it has too many tensors");
        tensor *t = &table->tensors[table->count++];
        memcpy(t->name, name, sizeof name);
        if (!take_tensor(r, t, data, data_bytes))
            return snprintf(error, KWS_ERROR_BYTES, "tensor %s is damaged", name), -1;
    } while (take(r, ','));
    return take(r, '}') ? 0 : refuse(error, damaged);
}

/* The last four bytes of the file are its checksum. */
static int check(const unsigned char *bytes, size_t size, const tensor_table *table, char *error) {
    const tensor *t = kws_find_tensor(table, "checksum");
    const unsigned char *end = bytes + size - 4;
    uint32_t sum = 0;
    if (!t) return refuse(error, "tensor checksum is missing");
    if (t->type != I32 || t->count != 1 || t->data != end)
        return refuse(error, "tensor checksum is not the end of the file");
    for (int i = 3; i >= 0; i--) sum = sum << 8 | end[i];
    if (sum != kws_checksum(bytes, size - 4))
        return refuse(error, "the file is damaged: its checksum differs");
    return 0;
}

int kws_read_tensors(const unsigned char *bytes, size_t size, tensor_table *table, char *error) {
    uint64_t header = 0;
    table->count = 0;
    if (size < 8) return refuse(error, "the file is too short");
    for (int i = 7; i >= 0; i--) header = header << 8 | bytes[i];
    if (header > size - 8) return refuse(error, "the file is cut off, or no safetensors file");
    const unsigned char *data = bytes + 8 + header;
    reader r = {(const char *)bytes + 8, (const char *)data};
    if (read_header(&r, data, size - 8 - (size_t)header, table, error)) return -1;
    return check(bytes, size, table, error);
}

const tensor *kws_find_tensor(const tensor_table *table, const char *name) {
    for (int i = 0; i < table->count; i++)
        if (!strcmp(table->tensors[i].name, name)) return &table->tensors[i];
    return NULL;
}
