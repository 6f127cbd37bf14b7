/* How well can a word be read? The logarithm, per phone, of the ratio of two paths of connectionist
   temporal classification (Graves et al., ICML 2006): the best one through the word's phones, and
   the best of all.

   With r[t, k] = log p[t, k] - max_j log p[t, j], and the path's parts s: phone, blank, phone, ...

       best[t, s] = r[t, s] + max(best[t - 1, s], entry[t, s])
       entry[t, 0] = 0                                 the word begins at any frame
       entry[t, s] = best[t - 1, s - 1]                and best[t - 1, s - 2], where s is a phone
                                                       and another one than s - 2
       ratio = max over the last frames of best[t, last] / phones */

#include "internal.h"

#include <math.h>


double kws_likelihood_ratio(const float *log_probs, int frames, int phones, const int *phone,
                            int count, int end_tolerance) {
    double best[2 * MAX_PHONES], before[2 * MAX_PHONES];
    int parts = 2 * count - 1;
    double ratio = -INFINITY;
    for (int s = 0; s < parts; s++) best[s] = -INFINITY;
    for (int t = 0; t < frames; t++) {
        const float *row = log_probs + (size_t)t * phones;
        memcpy(before, best, parts * sizeof *best);
        for (int s = 0; s < parts; s++) {
            double entry = s == 0 ? 0 : before[s - 1];
            if (s > 1 && s % 2 == 0 && phone[s / 2] != phone[s / 2 - 1] && before[s - 2] > entry)
                entry = before[s - 2];
            best[s] = row[s % 2 ? 0 : phone[s / 2]] + (before[s] > entry ? before[s] : entry);
        }
        if (t >= frames - end_tolerance && best[parts - 1] > ratio) ratio = best[parts - 1];
    }
    return ratio / count;
}
