/* How well can a word be read? The logarithm, per phone, of the ratio of two paths of connectionist
   temporal classification (Graves et al., ICML 2006): the best one through the word's phones, and
   the best of all.

   With r[t, k] = log p[t, k] - max_j log p[t, j], and the path's parts s: phone, blank, phone, ...

       best[t, s] = r[t, s] + max(best[t - 1, s], best[t - 1, s - 1], best[t - 1, s - 2] + skip[s])
       best[t, -1] = 0                        the word begins at any frame
       skip[s] = 0 where s is a phone and another one than s - 2, else minus infinity
       ratio = max over the last frames of best[t, last] / phones */

#include <math.h>

#include "internal.h"

double kws_likelihood_ratio(const float *ring, int64_t first, int frames, int phones,
                            const int *phone, int count, int end_tolerance) {
    enum { PARTS = 2 * MAX_PHONES };
    /* two numbers, of the parts -2 and -1, stand before those of part 0 */
    double paths[2][PARTS + 2], skip[PARTS], ratios[PARTS], ratio = -INFINITY;
    int label[PARTS], parts = 2 * count - 1;
    for (int s = 0; s < parts; s++) {
        int may_skip = s > 1 && s % 2 == 0 && phone[s / 2] != phone[s / 2 - 1];
        label[s] = s % 2 ? 0 : phone[s / 2];
        skip[s] = may_skip ? 0 : -INFINITY;
    }
    for (int s = 0; s < parts + 2; s++) paths[0][s] = paths[1][s] = s == 1 ? 0 : -INFINITY;
    for (int t = 0; t < frames; t++) {
        const float *row = ring + (first + t) % PHONE_ROWS * phones;
        const double *before = paths[t % 2];
        double *best = paths[(t + 1) % 2] + 2;
        for (int s = 0; s < parts; s++) ratios[s] = row[label[s]];
        for (int s = 0; s < parts; s++) {
            double skipped = before[s] + skip[s], moved = before[s + 1], stayed = before[s + 2];
            double entry = skipped > moved ? skipped : moved;
            best[s] = ratios[s] + (stayed > entry ? stayed : entry);
        }
        if (t >= frames - end_tolerance && best[parts - 1] > ratio) ratio = best[parts - 1];
    }
    return ratio / count;
}
