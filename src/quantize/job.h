/* job.h - one run of quantize while it is planned and carried out: outputs, their tensors, and where each row's bytes go.
 *
 * Invariant: the sizes of every stream are fixed before the first byte is written.
 */
#ifndef QN_QUANTIZE_JOB_H
#define QN_QUANTIZE_JOB_H

#include "base/fs.h"
#include "base/json.h"
#include "base/out_file.h"
#include "formats/gguf_write.h"
#include "formats/safetensors_write.h"
#include "quantize/calibration.h"
#include "quantize/source.h"
#include "quantize/targets.h"
#include "quern/quantize.h"
#include "text/vocab.h"

/* How rows become bytes. */
typedef enum qn_coding {
    QN_CODING_BLOCKS, /* one stream: rows of `dtype` */
    QN_CODING_AFFINE, /* three streams: MLX packed words, scales, biases */
    QN_CODING_MXFP4   /* two streams: MLX packed nibbles, e8m0 scales */
} qn_coding;

enum { QN_STREAMS_MAX = 3 };

/* What is measured while a tensor is written: sums over all elements. */
typedef struct qn_tensor_error {
    double squared_error, squared_source;
    double max_abs_error;
} qn_tensor_error;

/* One output tensor (with MLX its scales and biases too): how a piece's rows become bytes of a file. */
typedef struct qn_sink {
    const char *name; /* as in the output */
    qn_coding coding;
    qn_dtype dtype; /* BLOCKS; the dtype of scales and biases for AFFINE */
    qn_dtype asked; /* GGUF: the type before rows were looked at that are no whole blocks of it */
    qn_affine affine;
    uint32_t permute_dim; /* rows are interleaved within heads of this size (GGUF's rope order); 0 = rows in order */
    size_t file;          /* which file of the output */
    size_t n_streams;
    size_t stream_tensor[QN_STREAMS_MAX]; /* the writer's number */
    size_t row_bytes[QN_STREAMS_MAX];
    qn_tensor_error error;
    qn_checksum written[QN_STREAMS_MAX]; /* of the bytes so far, in order */
    uint64_t sums[QN_STREAMS_MAX];       /* of all of them, as an earlier run noted; for pieces that are not converted again */
} qn_sink;

typedef struct qn_output_file {
    const char *path;     /* absolute or as given; final name */
    const char *relative; /* to the manifest */
    qn_gguf_writer *gguf; /* one of these while it is written */
    qn_safetensors_writer *safetensors;
    qn_out_file *text; /* configuration and tokenizer files */
    qn_out_file *left; /* what an earlier run left of it, until the writer goes on with it */
    uint64_t bytes;    /* planned, then as written */
    char sha256[65];
} qn_output_file;

/* The type that mix.h gave a piece. */
typedef struct qn_mix_entry {
    bool is_chosen;
    qn_dtype dtype; /* GGUF */
    qn_affine affine;
} qn_mix_entry;

typedef struct qn_output {
    qn_target target;
    const char *type;      /* "Q4_K_M", "4bit-g64" */
    const char *relative;  /* the file (GGUF) or folder (MLX) */
    qn_sink *sinks;        /* one a piece */
    qn_mix_entry *mix;     /* one a piece, or NULL: the target's recipe alone */
    qn_output_file *files; /* weights first */
    size_t n_files, n_weight_files, cap_files;
    uint64_t tensor_bytes; /* of all tensors together */
    const char **warnings; /* what the format cannot say */
    size_t n_warnings, cap_warnings;
    size_t first_unsaid, n_unsaid; /* of the warnings: what is missing from a GGUF file for want of a key, whoever reads it */
    float *rope_divisors;          /* GGUF with llama3 rope: n_rot / 2 values of rope_freqs.weight, else NULL */
    bool refused;                  /* by the gate; its files stay until every output is examined */
    bool failed;                   /* refused, and its files are removed, or named *.failed */
    qn_json *quality, *gate;       /* the gate's objects for the manifest; NULL without a gate */
} qn_output;

typedef struct qn_job {
    qn_arena arena;
    qn_source source;
    qn_vocab_export vocab; /* the tokenizer in GGUF's words, if has_vocab */
    bool has_vocab;
    const char *name;
    const char *output_dir;
    qn_output *outputs;
    size_t n_outputs;
    size_t n_threads;
    uint64_t memory_bytes;
    qn_calibration calibration;
    quern_gate_policy gate;
    uint64_t shard_bytes; /* an MLX weight file is not begun beyond this */
    float *greatest;      /* (n_pieces) magnitude in the source, of converted pieces */
    size_t n_continued;   /* pieces that an earlier run converted: they stand in the files */
} qn_job;

/* What quern_quantize takes for granted and tests choose. */
typedef struct qn_quantize_limits {
    uint64_t shard_bytes;   /* an MLX weight file is not begun beyond this */
    uint64_t checkpoint_ns; /* time between two notes of what is on the disk */
} qn_quantize_limits;

/* quern_quantize with limits of its own; the second form: with the usual ones but for shard_bytes. */
quern_status qn_quantize_run_with(const quern_quantize_options *opt, const qn_quantize_limits *limits, char **manifest_json, size_t *len,
                                  quern_error *err);
quern_status qn_quantize_run(const quern_quantize_options *opt, uint64_t shard_bytes, char **manifest_json, size_t *len, quern_error *err);

/* Opens the source and plans all outputs; nothing is written. qn_job_close also after a failure. */
quern_status qn_job_open(qn_job *job, const quern_quantize_options *opt, uint64_t shard_bytes, quern_error *err);
void qn_job_close(qn_job *job);

/* The file under its temporary name, or NULL before it is begun. */
qn_out_file *qn_output_file_get(const qn_output_file *f);
/* Adds a file to an output, path = output_dir/relative. */
quern_status qn_job_add_file(qn_job *job, qn_output *o, const char *relative, uint64_t bytes, qn_output_file **out, quern_error *err);
/* Adds a sentence to an output's warnings. */
quern_status qn_job_warn(qn_job *job, qn_output *o, quern_error *err, const char *format, ...) QN_PRINTF(4, 5);

#endif
