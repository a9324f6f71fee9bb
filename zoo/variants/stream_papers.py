"""Papers of the placements with another residual stream."""

from __future__ import annotations

from zoo.variants.papers import authors
from zoo.variants.variant import Paper

RESI_DUAL = Paper(
    "ResiDual: Transformer with Dual Residual Connections",
    authors(
        "Xie, Shufang; Zhang, Huishuai; Guo, Junliang; Tan, Xu; Bian, Jiang; Awadalla, Hany "
        "Hassan; Menezes, Arul; Qin, Tao; Yan, Rui"
    ),
    2023,
    "2304.14802",
    "xie2023residual",
)

B2T = Paper(
    "B2T Connection: Serving Stability and Performance in Deep Transformers",
    authors("Takase, Sho; Kiyono, Shun; Kobayashi, Sosuke; Suzuki, Jun"),
    2022,
    "2206.00330",
    "takase2022b2t",
    "Findings of ACL 2023",
)

SPAN_NORM = Paper(
    "SpanNorm: Reconciling Training Stability and Performance in Deep Transformers",
    authors(
        "Wang, Chao; Li, Bei; Zhang, Jiaqi; Liu, Xinyu; Fan, Yuchun; Lyu, Linkun; Chen, Xin; "
        "Wang, Jingang; Xiao, Tong; Pei, Peng; Cai, Xunliang"
    ),
    2026,
    "2601.22580",
    "wang2026spannorm",
    "ICML 2026",
)

SIAMESE_NORM = Paper(
    "SiameseNorm: Breaking the Barrier to Reconciling Pre/Post-Norm",
    authors(
        "Li, Tianyu; Han, Dongchen; Cao, Zixuan; Huang, Haofeng; Zhou, Mengyu; Chen, Ming; Zhao, "
        "Erchao; Jiang, Xiaoxi; Jiang, Guanjun; Huang, Gao"
    ),
    2026,
    "2602.08064",
    "li2026siamesenorm",
    "ICML 2026",
)

HYPER_CONNECTIONS = Paper(
    "Hyper-Connections",
    authors(
        "Zhu, Defa; Huang, Hongzhi; Huang, Zihao; Zeng, Yutao; Mao, Yunyao; Wu, Banggu; Min, "
        "Qiyang; Zhou, Xun"
    ),
    2024,
    "2409.19606",
    "zhu2024hyper",
    "ICLR 2025",
)

MHC = Paper(
    "mHC: Manifold-Constrained Hyper-Connections",
    authors(
        "Xie, Zhenda; Wei, Yixuan; Cao, Huanqi; Zhao, Chenggang; Deng, Chengqi; Li, Jiashi; Dai, "
        "Damai; Gao, Huazuo; Chang, Jiang; Yu, Kuai; Zhao, Liang; Zhou, Shangyan; Xu, Zhean; "
        "Zhang, Zhengyan; Zeng, Wangding; Hu, Shengding; Wang, Yuqing; Yuan, Jingyang; Wang, "
        "Lean; Liang, Wenfeng"
    ),
    2025,
    "2512.24880",
    "xie2025mhc",
)

FRAC_CONNECTIONS = Paper(
    "Frac-Connections: Fractional Extension of Hyper-Connections",
    authors(
        "Zhu, Defa; Huang, Hongzhi; Zhou, Jundong; Huang, Zihao; Zeng, Yutao; Wu, Banggu; Min, "
        "Qiyang; Zhou, Xun"
    ),
    2025,
    "2503.14125",
    "zhu2025frac",
)

ATTENTION_RESIDUALS = Paper(
    "Attention Residuals",
    authors("{Kimi Team}; Chen, Guangyu; Zhang, Yu; Su, Jianlin; Xu, Weixin; others"),
    2026,
    "2603.15031",
    "kimi2026attention",
)

DENSE_FORMER = Paper(
    "DenseFormer: Enhancing Information Flow in Transformers via Depth Weighted Averaging",
    authors("Pagliardini, Matteo; Mohtashami, Amirkeivan; Fleuret, François; Jaggi, Martin"),
    2024,
    "2402.02622",
    "pagliardini2024denseformer",
    "NeurIPS 2024",
)

DLCL = Paper(
    "Learning Deep Transformer Models for Machine Translation",
    authors(
        "Wang, Qiang; Li, Bei; Xiao, Tong; Zhu, Jingbo; Li, Changliang; Wong, Derek F.; Chao, "
        "Lidia S."
    ),
    2019,
    "1906.01787",
    "wang2019learning",
    "ACL 2019",
)

NGPT = Paper(
    "nGPT: Normalized Transformer with Representation Learning on the Hypersphere",
    authors("Loshchilov, Ilya; Hsieh, Cheng-Ping; Sun, Simeng; Ginsburg, Boris"),
    2024,
    "2410.01131",
    "loshchilov2024ngpt",
    "ICLR 2025",
)

X0_SKIP = Paper(
    "modded-nanogpt: Speedrunning the NanoGPT baseline",
    authors(
        "Jordan, Keller; Bernstein, Jeremy; Rappazzo, Brendan; {@fernbear.bsky.social}; Vlado, "
        "Boza; You, Jiacheng; Cesista, Franz; Koszarsky, Braden; {@Grad62304977}"
    ),
    2024,
    "",
    "jordan2024modded",
    url="https://github.com/KellerJordan/modded-nanogpt",
)

NAG = Paper(
    "Scaling Adaptive Depth with Norm-Agnostic Residual Networks",
    authors("Figliolia, Tomás; Millidge, Beren"),
    2026,
    "2606.16112",
    "figliolia2026scaling",
)

GEO_NORM = Paper(
    "GeoNorm: Unify Pre-Norm and Post-Norm with Geodesic Optimization",
    authors(
        "Zheng, Chuanyang; Sun, Jiankai; Gao, Yihang; Wang, Chi; Wang, Yuehao; Xiong, Jing; Ren, "
        "Liliang; Peng, Bo; Wang, Qingmei; Shang, Xiaoran; Schwager, Mac; Schneider, Anderson; "
        "Nevmyvaka, Yuriy; Liu, Xiaodong"
    ),
    2026,
    "2601.22095",
    "zheng2026geonorm",
)

DELTA_LEARNING = Paper(
    "Deep Delta Learning",
    authors("Zhang, Yifan; Liu, Yifeng; Wang, Mengdi; Gu, Quanquan"),
    2026,
    "2601.00417",
    "zhang2026deep",
)

LAUREL = Paper(
    "LAuReL: Learned Augmented Residual Layer",
    authors("Menghani, Gaurav; Kumar, Ravi; Kumar, Sanjiv"),
    2024,
    "2411.07501",
    "menghani2024laurel",
    "ICML 2025",
)

MULTI_GATE_RESIDUAL = Paper(
    "Multi-Gate Residuals",
    authors(
        "Zheng, Zhizhan; Zhang, Feiyun; Liu, Shuchun; Xia, Tian; Liu, Xi; Hu, Dasheng; Zhou, "
        "Hongquan"
    ),
    2026,
    "2605.23259",
    "zheng2026multi",
)
